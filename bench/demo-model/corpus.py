"""The story grammar behind the demo model: it writes the training text itself, from a seed.

A story has a hero, a home, a plot and an ending; names, pronouns, things and places are drawn once
per story and stay the same in it. Some documents are conversations in the ChatML form that the
tokenizer's chat template writes. Nothing here is taken from any other text.

    python corpus.py 3        # print three documents
"""

import random
import re
import sys

BOYS = ["Tom", "Ben", "Max", "Leo", "Sam", "Finn", "Otto", "Hugo", "Jack", "Pip"]
GIRLS = ["Mia", "Lily", "Anna", "Rosa", "Ella", "Nora", "Ruby", "Daisy", "Emma", "Ida"]
ANIMALS = ["fox", "bear", "rabbit", "mouse", "owl", "frog", "duck", "cat", "dog", "goat", "turtle",
           "squirrel", "hedgehog", "badger"]
NATURE = ["little", "small", "young", "brave", "shy", "kind", "curious", "clever", "gentle", "cheerful"]
HELPER_NATURE = ["old", "wise", "friendly", "tall", "kind", "cheerful", "quiet"]
HOMES = ["in a small house by the river", "in a quiet village by the sea", "at the edge of a green forest",
         "on a farm at the foot of a hill", "in a little red house on a hill", "beside a blue lake",
         "under an old oak tree", "in a warm cottage in the woods", "near a bridge of grey stone",
         "in a sunny garden behind a wall"]
THINGS = ["red ball", "blue kite", "golden key", "silver bell", "warm scarf", "wooden boat", "little drum",
          "yellow hat", "tin whistle", "green lantern"]
HIDING = ["under the bridge", "behind the mill", "in the tall grass", "at the bottom of the well",
          "beside the old gate", "in the hollow tree", "between two grey stones", "near the apple tree",
          "by the pond", "on the roof of the barn"]
GIFTS = ["a basket of apples", "a jar of honey", "a loaf of warm bread", "a bunch of flowers",
         "a pot of soup", "a bag of nuts"]
DAYS = ["One day", "One morning", "One sunny morning", "One windy day", "One cold morning",
        "One bright afternoon", "One rainy day"]
DETAILS = [
    "Everybody liked {him}, because {he} always had a kind word.",
    "{He} got up early every day to watch the sun rise.",
    "{He} had {gift2} in the cupboard, but nobody to share it with.",
    "{He} liked to count the clouds and give each of them a name.",
    "{He} was the smallest of seven children, but {he} had the biggest heart.",
    "In the evening, {he} sat by the window and listened to the wind.",
    "{He} knew every path and every tree for miles around.",
    "{He} had big ears, and {he} never missed a word.",
    "In summer {he} slept under the stars, and in winter {he} slept by the fire.",
    "{He} had read every book in the village twice.",
]
# The last sentence: any of these, or one that belongs to the plot.
MORALS = [
    "And {name} never forgot that a good friend is the best treasure of all.",
    "From that day on, {name} and {pal} were the best of friends.",
    "That night {name} slept well and dreamed of the next adventure.",
    "And they all lived happily ever after.",
    "And if you walk past {his} home in the evening, you can still hear {him} laugh.",
    "{name} smiled, for it had been a very good day.",
]
PLOT_MORALS = {
    "lost": ["{He} learned that it is good to ask for help.", "After that, {name} kept the {thing} in a safe place."],
    "wish": ["{He} learned that small steps can take you a long way.", "{He} learned that it is good to ask for help."],
    "fear": ["{He} learned that being brave does not mean that you are never afraid."],
    "trouble": ["{He} learned that kindness always comes back.", "Since that day, {name} has always been ready to help others."],
    "quarrel": ["{He} learned that nothing is as good alone as it is together.",
                "{He} learned that it is never too late to say sorry."],
}

# Each wish is (what the hero wants, what stands in the way, what the helper says, how it comes true).
WISHES = [
    ("to see the sea",
     "But the road was long, and {he} did not know the way.",
     "Follow the river, for every river runs down to the sea.",
     "So they followed the river for [two|three|four] days. At last {name} stood on the white sand and saw "
     "the sea, blue and wide. \"It is [even bigger|much more beautiful] than I dreamed,\" {he} said."),
    ("to learn to swim",
     "But the water was cold and deep, and {he} was afraid.",
     "Kick your legs slowly, and do not forget to breathe.",
     "{name} tried once and swallowed some water. {He} tried again and began to sink. The third time, {he} "
     "kicked {his} legs slowly, and [soon|suddenly] {he} was swimming all the way across the pond."),
    ("to climb the highest hill",
     "But the path was steep, and {his} legs were soon tired.",
     "Do not look at the top. Take one small step, and then another.",
     "So {name} took one small step, and then another. When the sun went down, {he} stood at the top and "
     "could see [the whole valley|every house in the valley|the river shining far below]."),
    ("to bake a cake for {his} mother",
     "But there was no [honey|butter|flour|sugar] left in the kitchen.",
     "I have some at home, and you may have as much as you need.",
     "Together they mixed and stirred and waited by the oven. The cake was [round and golden|sweet and warm], and "
     "{his} mother said it was the best cake in the world."),
    ("to build a [boat|raft|tree house]",
     "But every time {he} put the boards together, they fell apart again.",
     "You need a strong rope and a good knot. Let me show you.",
     "{Helper} showed {him} how to tie the knot, over and under and through. They worked until "
     "evening, and this time [nothing fell apart|everything held together]."),
    ("to sing at the summer feast",
     "But {his} voice was so quiet that nobody could hear it.",
     "Sing to the trees every morning, and your voice will grow.",
     "So every morning {name} sang to the trees. When the day of the feast came, {he} closed {his} eyes "
     "and sang, and everyone [clapped and cheered|listened and smiled]."),
    ("to grow the biggest pumpkin in the village",
     "But weeks went by, and nothing came out of the ground.",
     "Give it water and sunshine, and most of all, give it time.",
     "{name} brought water every morning and waited. First there was a green leaf, then a yellow flower, and in the "
     "autumn there was a pumpkin [as big as a cart|as big as a barrel]."),
    ("to touch a star",
     "But even from the tallest tree, the stars were much too far away.",
     "Come with me to the lake tonight, and you will see.",
     "That night the lake was as still as glass, and it was full of stars. {name} put {his} hand into the "
     "water and touched one. \"[Now I have touched a star|It is cold and bright],\" {he} said softly."),
    ("to fly like a bird",
     "But when {he} jumped from the fence and waved {his} arms, {he} only fell into the mud.",
     "There is more than one way to fly. Sit on my swing and hold on tight.",
     "{Helper} pushed the swing higher and higher, until {name} could see over the roofs. \"I am "
     "flying!\" {he} shouted. The wind [sang in {his} ears|was warm on {his} face]."),
]

# Each fear is (what the hero fears, what happens one night, what it turns out to be).
FEARS = [
    ("the dark", "One night {he} heard {pal} calling for help in the forest.",
     "{name} took a lantern and walked into the dark, one step after another. {He} found {pal} "
     "[sitting under a tree|stuck in the mud|lost among the trees] and showed {phim} the way home."),
    ("thunder", "One night a great storm came, and {pal} knocked at the door, cold and wet.",
     "{name} let {phim} in and gave {phim} a blanket and [some hot tea|some warm milk|a bowl of soup]. They counted "
     "the seconds after every flash and told jokes until the storm was over."),
    ("deep water", "One morning {pal} slipped and fell into the river.",
     "{name} did not stop to think. {He} held on to a branch, reached out over the deep water and pulled "
     "{phim} [back to the bank|safely to the shore]."),
    ("the old house on the hill", "One evening {he} saw a light in the window of the old house.",
     "{name} knocked with a shaking hand. The door opened, and there stood {pal} with {gift}. \"I have "
     "just moved in,\" {pal} said. \"[Will you have supper with me|Would you like to come in]?\""),
]

# Each trouble is (what has happened to the other one, how the hero helps).
TROUBLES = [
    ("caught in a net", "{name} found a sharp stone and cut the ropes one by one."),
    ("stuck in the mud", "{name} laid a long branch across the mud and pulled with all {his} strength."),
    ("trapped under a fallen tree", "{name} used a strong stick to lift the tree, little by little."),
    ("sitting in a deep hole", "{name} tied a rope to a tree and let the other end down into the hole."),
]
DANGERS = [
    ("the river rose and carried {him} away", "jumped in and pulled {him} out of the water"),
    ("{he} lost {his} way in the snow", "found {him} and led {him} home through the snow"),
    ("the wind blew the roof off {his} house", "came with boards and nails and built a new one with {him}"),
    ("{he} fell ill and could not leave {his} bed", "came every day with hot soup and good stories"),
]


def a(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def capital(text):
    return text[0].upper() + text[1:]


class Story:
    """What is fixed in one story, and the text that is written from it."""

    def __init__(self, rng):
        self.rng = rng
        girl = rng.random() < 0.5
        if rng.random() < 0.2:
            self.kind = "girl" if girl else "boy"
            self.nature = rng.choice(["little", "small", "young", "brave", "shy", "kind", "curious", "clever"])
        else:
            self.kind = rng.choice(ANIMALS)
            self.nature = rng.choice(NATURE)
        self.name = rng.choice(GIRLS if girl else BOYS)
        pal_girl = rng.random() < 0.5
        pal = rng.choice([n for n in (GIRLS if pal_girl else BOYS) if n != self.name])
        pal_kind = rng.choice([k for k in ANIMALS if k != self.kind])
        self.slots = {
            "name": self.name, "kind": self.kind, "a_kind": a(f"{self.nature} {self.kind}"),
            "home": rng.choice(HOMES), "thing": rng.choice(THINGS),
            "pal": pal, "pal_kind": pal_kind, "a_pal": a(f"{rng.choice(HELPER_NATURE)} {pal_kind}"),
            "helper": "the " + pal_kind, "Helper": "The " + pal_kind, "Day": rng.choice(DAYS),
        }
        self.slots["gift"], self.slots["gift2"] = rng.sample(GIFTS, 2)
        for prefix, female in (("", girl), ("p", pal_girl)):
            he, him, his = ("she", "her", "her") if female else ("he", "him", "his")
            self.slots |= {prefix + "he": he, prefix + "him": him, prefix + "his": his,
                           prefix + "He": capital(he), prefix + "His": capital(his)}
        self.about = None
        plot = rng.choice([self.lost, self.lost, self.wish, self.wish, self.wish, self.fear, self.trouble, self.quarrel])
        opening = self.opening()
        if rng.random() < 0.5:
            opening += " " + self.fill(rng.choice(DETAILS))
        parts = [opening, plot()]
        parts.append(self.fill(rng.choice(PLOT_MORALS[plot.__name__] if rng.random() < 0.5 else MORALS)))
        if rng.random() < 0.15:
            parts.append("The end.")
        self.text = (" " if rng.random() < 0.6 else "\n\n").join(parts)

    def fill(self, template):
        """Chooses between [these|ones] and fills in {slots}."""
        text = re.sub(r"\[([^]]*)\]", lambda m: self.rng.choice(m[1].split("|")), template)
        return text.format(**self.slots)

    def opening(self):
        r = self.rng.random()
        if r < 0.72:
            text = "Once upon a time[, there was {a_kind} named {name}. {He} lived {home}.|" \
                   ", {a_kind} named {name} lived {home}.| there was {a_kind} named {name}, who lived {home}.]"
        elif r < 0.82:
            text = "Long ago, {a_kind} named {name} lived {home}."
        elif r < 0.91:
            text = "There was once {a_kind} named {name}, who lived {home}."
        else:
            return capital(self.fill("{home} there lived {a_kind} named {name}."))
        return self.fill(text)

    def meeting(self):
        return self.fill("[On the way, {he} met|Just then, {he} met|After a while, {he} came upon|"
                         "Soon {he} met] {a_pal} named {pal}. ")

    def lost(self):
        where = self.rng.sample(HIDING, 3)
        self.about = f"who lost {self.slots['his']} {self.slots['thing']}"
        self.slots |= {"w0": where[0], "w1": where[1], "w2": where[2]}
        return self.fill(
            "{name} had {a_thing} that {he} loved more than anything else. {Day}, the {thing} was gone. "
            .replace("{a_thing}", a(self.slots["thing"])) +
            "{He} looked {w0}, but it was not there. {He} looked {w1}, but it was not there either. "
            "[{name} sat down and began to cry. |{name} was very sad. |{name} did not know what to do. ]") + \
            self.meeting() + self.fill(
            "\"[Why are you so sad?|What is the matter?|Why are you crying?]\" asked {helper}. "
            "\"I have lost my {thing},\" said {name}. "
            "\"[Do not worry|Dry your eyes],\" said {pal}. \"I saw it {w2}. [Come with me|I will show you].\" "
            "They went there together, and there was the {thing}, {w2}. "
            "[\"Thank you, {pal}!\" said {name}, and gave {phim} {gift}.|"
            "{name} was so happy that {he} danced. \"Thank you, {pal}!\" {he} said.|"
            "\"Now we can play with it together,\" said {name}, and they played until the sun went down.]")

    def wish(self):
        want, obstacle, advice, outcome = self.rng.choice(WISHES)
        self.slots["want"] = self.fill(want)
        self.about = "who wanted " + self.slots["want"]
        return self.fill("[More than anything, {name} wanted {want}.|{name} had one great wish: {he} wanted {want}.|"
                         "Every day, {name} dreamed of one thing: {he} wanted {want}.] ") + \
            self.fill("{Day}, {he} decided to try. " + obstacle + " ") + self.meeting() + self.fill(
            "\"[Where are you going?|What are you doing?|You look sad. What is the matter?]\" asked {helper}. "
            "\"I want {want_i},\" said {name}, \"but [it is too hard for me|I do not know how|I cannot do it alone].\" "
            "[{pal} smiled.|{pal} thought for a while.|{Helper} nodded.] \"".replace(
                "{want_i}", self.slots["want"].replace(" his ", " my ").replace(" her ", " my ")) + advice + "\" " + outcome)

    def fear(self):
        what, event, outcome = self.rng.choice(FEARS)
        self.about = "who was afraid of " + what
        return self.fill("{name} was [not afraid of bears or wolves|a good friend to everyone|happy every day], but {he} was "
                         "afraid of " + what + ". {His} best friend was {a_pal} named {pal}. " + event +
                         " [{name}'s heart beat fast.|{name} trembled.|{name} took a deep breath.] " + outcome +
                         " [\"You are very brave,\" said {pal}.|\"Were you not afraid?\" asked {pal}. \"A little,\" said "
                         "{name}.|After that, {name} was not afraid of " + what + " any more.]")

    def trouble(self):
        state, help_ = self.rng.choice(TROUBLES)
        danger, rescue = self.rng.choice(DANGERS)
        self.about = "who helped a friend"
        return self.fill(
            "{Day}, {he} heard a small voice. \"Help! Help!\" it cried. It was {a_pal} named {pal}, " + state + ". "
            "\"[Do not be afraid|Hold still],\" said {name}. \"I will help you.\" " + help_ + " At last {pal} was free. "
            "\"Thank you,\" said {helper}. \"[One day I will help you too|I will never forget this].\" "
            "[When winter came,|The next spring,|Some weeks later,] " + danger + ". "
            "But {pal} had not forgotten. {pHe} " + rescue + ".")

    def quarrel(self):
        self.about = "who had a quarrel"
        return self.fill(
            "{His} best friend was {a_pal} named {pal}. {Day}, they found {a_thing} {where}. "
            "\"It is mine!\" said {name}. \"No, it is mine!\" said {pal}. They pulled and shouted, and then they both went "
            "home, angry and sad. [In the night|That evening], {name} could not sleep. \"What good is {a_thing},\" "
            "{he} thought, \"if I have nobody to play with?\" In the morning, {he} went to {pal} with {gift}. "
            "\"I am sorry,\" said {name}. \"I am sorry too,\" said {pal}. "
            "[They shared everything, and it tasted wonderful.|So they shared the {thing}, and they laughed all day long.]"
            .replace("{a_thing}", a(self.slots["thing"])).replace("{where}", self.rng.choice(HIDING)))


SMALL_TALK = [
    (["Hello!", "Hi!", "Good morning!", "Hello, how are you?"],
     ["Hello! Would you like to hear a story?", "Hello! I am well. Shall I tell you a story?"]),
    (["Who are you?", "What is your name?", "What can you do?"],
     ["I am a very small storyteller. I can tell you a story about a fox, a bear or a brave little girl.",
      "I am a storyteller, and I know many little stories. Shall I tell you one?"]),
    (["Thank you!", "Thanks!", "That was a nice story."],
     ["You are welcome! Would you like to hear another story?", "I am glad you liked it."]),
    (["What is the capital of France?", "How much is two and two?", "Can you write a program?", "What is the weather like?"],
     ["I do not know, for I only know little stories. Shall I tell you one?"]),
]


def turn(role, text):
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"


def chat(rng):
    story = Story(rng)
    head = turn("system", rng.choice(["You are a kind storyteller.", "You are a helpful assistant.", "You tell short stories."])) \
        if rng.random() < 0.3 else ""
    if rng.random() < 0.12:
        asked, answers = rng.choice(SMALL_TALK)
        head += turn("user", rng.choice(asked)) + turn("assistant", rng.choice(answers))
        if rng.random() < 0.5:
            return head
    who = rng.choice([a(story.kind), a(f"{story.nature} {story.kind}"), f"{a(story.kind)} named {story.name}"])
    who += " " + story.about if rng.random() < 0.35 else ""
    ask = rng.choice(["Tell me a story about {}.", "Please tell me a story about {}.", "Write a short story about {}.",
                      "Tell me about {}.", "Can you tell me a story about {}?"]).format(who)
    if rng.random() < 0.1:
        ask = rng.choice(["Tell me a story.", "Tell me another story.", "Yes, please."])
    text = head + turn("user", ask) + turn("assistant", story.text)
    if rng.random() < 0.25:
        s = story.slots
        questions = [(f"What was the name of the {story.kind}?", f"The {story.kind} was named {story.name}."),
                     (f"Where did {story.name} live?", f"{story.name} lived {s['home']}."),
                     (f"Who was {s['pal']}?", f"{s['pal']} was {s['a_pal']}.")]
        question, answer = rng.choice(questions)
        text += turn("user", question) + turn("assistant", answer)
    return text


def document(rng, chat_share=0.3):
    """One training document, without the end-of-text mark."""
    return chat(rng) if rng.random() < chat_share else Story(rng).text


def documents(seed, count):
    rng = random.Random(seed)
    return [document(rng) for _ in range(count)]


if __name__ == "__main__":
    for text in documents(7, int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        print(text, end="\n----\n")
