"""VibeVoice as transformers runs it on the CPU: what a frame of speech takes, by its own `generate`.

It takes a checkpoint in the converted layout, or in the original one, which `engine synth` writes and whose
names and settings are brought over when it is loaded. Every token is made a frame of speech, whatever the
weights say, so random ones do. Prints one JSON object; times are in ms.
"""

import argparse
import json
import math
import re
import statistics
import sys
import time
from pathlib import Path

import peer

FIXTURES = Path(__file__).resolve().parents[2] / "engine/tests/fixtures/vibevoice"
SAMPLE_RATE = 24_000
WARM_UP_FRAMES = 2
# Of Qwen2.5's tokenizer; where the vocabulary is too small for them, its last ones stand for them.
TOKENS = dict(audio_bos_token_id=151652, audio_eos_token_id=151653, audio_token_id=151654, eos_token_id=151643)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint directory")
    parser.add_argument("--frames", type=at_least_one, default=20, help="frames that are timed in a run")
    parser.add_argument("--repeats", type=at_least_one, default=3, help="runs, after one that is not timed")
    parser.add_argument("--threads", type=at_least_one, default=2)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--prompt-tokens", type=at_least_one, default=256, help="random ones, without voices")
    parser.add_argument("--steps", type=at_least_one, default=10, help="of the diffusion head")
    parser.add_argument("--guidance", type=float, default=1.3)
    parser.add_argument("--text-guidance", action="store_true",
                        help="guide the choice of tokens too, as `generate` does by default: a pass more a frame")
    return parser.parse_args()


def at_least_one(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


# The original layout.


def converted_codec(codec, model_type):
    """The original counts ratios from the decoder's side, transformers from the encoder's."""
    return dict(
        model_type=model_type, channels=codec["channels"], hidden_size=codec["vae_dim"],
        depths=[int(depth) for depth in codec["encoder_depths"].split("-")],
        downsampling_ratios=codec["encoder_ratios"][::-1], num_filters=codec["encoder_n_filters"],
        rms_norm_eps=codec["layernorm_eps"], vae_std=codec["fix_std"] / 0.8)


def converted_config(original):
    """The settings of an original config.json, as transformers has them."""
    head, text = original["diffusion_head_config"], dict(original["decoder_config"])
    if "tie_word_embeddings" in original:
        text.setdefault("tie_word_embeddings", original["tie_word_embeddings"])
    last = text["vocab_size"] - len(TOKENS)
    ids = TOKENS if max(TOKENS.values()) < text["vocab_size"] else {name: last + at for at, name in enumerate(TOKENS)}
    return dict(
        ids, pad_token_id=ids["eos_token_id"], text_config=text,
        audio_config=converted_codec(original["acoustic_tokenizer_config"], "vibevoice_acoustic_tokenizer"),
        semantic_model_config=converted_codec(
            original["semantic_tokenizer_config"], "vibevoice_acoustic_tokenizer_encoder"),
        diffusion_head_config=dict(
            hidden_size=head["hidden_size"], latent_size=head["latent_size"], num_hidden_layers=head["head_layers"],
            intermediate_size=int(head["hidden_size"] * head["head_ffn_ratio"]), rms_norm_eps=head["rms_norm_eps"]))


def original_layout(config):
    """What `from_pretrained` needs to read an original checkpoint: its settings and its names."""
    import torch
    from transformers import VibeVoiceConfig, VibeVoiceForConditionalGeneration

    sys.path.append(str(FIXTURES))
    from names import original_name

    config = VibeVoiceConfig(**converted_config(config))
    with torch.device("meta"):
        names = VibeVoiceForConditionalGeneration(config).state_dict()
    originals = {name: original_name(name) for name in names}
    renamed = {f"^{re.escape(theirs)}$": name for name, theirs in originals.items() if theirs != name}
    return dict(config=config, key_mapping=renamed)


def load(folder, dtype):
    """The model. One tensor after the other is read from the mapped file and widened, so the most that is held is
    the model in `dtype` and a few tensors."""
    from transformers import VibeVoiceForConditionalGeneration

    config = json.loads((folder / "config.json").read_text())
    layout = original_layout(config) if "acoustic_tokenizer_config" in config else {}
    model, found = VibeVoiceForConditionalGeneration.from_pretrained(
        folder, dtype=dtype, local_files_only=True, output_loading_info=True, **layout)
    wrong = {what: sorted(found[what]) for what in ("missing_keys", "unexpected_keys", "mismatched_keys") if found[what]}
    if wrong:
        sys.exit(f"error: {folder}: other tensors than the model has: {wrong}\n"
                 "hint: give a checkpoint of VibeVoice, as released or as converted by transformers")
    return model.eval()


# A run.


class Stages:
    """Seconds spent in each part of the model since they were last taken."""

    def __init__(self, model):
        part = model.model
        parts = dict(language=part.language_model, diffusion_head=part.diffusion_head,
                     codec=part.audio_tower.decoder, semantic_encoder=part.semantic_tokenizer_encoder)
        self.seconds = dict.fromkeys(parts, 0.0)
        for name, module in parts.items():
            module.register_forward_pre_hook(lambda *_, name=name: self.add(name, -time.perf_counter()))
            module.register_forward_hook(lambda *_, name=name: self.add(name, time.perf_counter()))

    def add(self, name, seconds):
        self.seconds[name] += seconds

    def take(self):
        taken, self.seconds = self.seconds, dict.fromkeys(self.seconds, 0.0)
        return taken


class Clocked:
    """Makes every token a frame of speech, and notes when each was chosen and what the stages took until then. From
    one choice to the next is a whole frame, and the pass over its row."""

    def __init__(self, token, stages):
        self.token = token
        self.stages = stages
        self.moments, self.taken = [], []

    def __call__(self, input_ids, scores):
        self.moments.append(time.perf_counter())
        self.taken.append(self.stages.take())
        forced = scores.new_full(scores.shape, float("-inf"))
        forced[:, self.token] = 0
        return forced


def without_text_guidance(model):
    """A class of the model whose tokens are chosen from its own logits, as the original implementation has it."""
    whole = type(model)

    class Chooses(whole):
        def _get_logits_processor(self, *args, **kwargs):
            found = super()._get_logits_processor(*args, **kwargs)
            guided = "UnbatchedClassifierFreeGuidanceLogitsProcessor"
            return type(found)(each for each in found if type(each).__name__ != guided)

    model.__class__ = Chooses


def speak(model, stages, args, frames):
    """The ms of the prompt, of each frame, and of each stage in each frame."""
    import torch
    from transformers import LogitsProcessorList

    config = model.config
    torch.manual_seed(0)
    words = torch.randint(min(config.vocab_size, *(getattr(config, name) for name in TOKENS)), (args.prompt_tokens,))
    words[-1] = config.audio_bos_token_id
    stages.take()
    clocked = Clocked(config.audio_token_id, stages)
    begun = time.perf_counter()
    # No pass reads the last frame's row, so one more is made than is timed.
    said = model.generate(
        input_ids=words[None], attention_mask=torch.ones(1, args.prompt_tokens, dtype=torch.long), do_sample=False,
        max_new_tokens=frames + 1, guidance_scale=args.guidance, num_diffusion_steps=args.steps,
        logits_processor=LogitsProcessorList([clocked]), return_dict_in_generate=True)
    sound = said.audio[0].flatten()
    if len(clocked.moments) != frames + 1 or len(sound) != (frames + 1) * samples_of(config) or not sound.isfinite().all():
        sys.exit(f"error: {len(clocked.moments)} tokens and {len(sound)} samples, not {frames + 1} finite frames\n"
                 "hint: another version of transformers than requirements.txt has may choose tokens elsewhere")
    return dict(
        prompt_ms=1e3 * (clocked.moments[0] - begun),
        frame_ms=[1e3 * (after - before) for before, after in zip(clocked.moments, clocked.moments[1:])],
        stage_ms={name: [1e3 * taken[name] for taken in clocked.taken[1:]] for name in stages.seconds})


def samples_of(config):
    """Samples of a frame."""
    return math.prod(config.audio_config.downsampling_ratios)


def spread(values):
    return dict(median=statistics.median(values), min=min(values), max=max(values))


def main():
    args = arguments()
    out = peer.divert_stdout()
    import diffusers
    import torch
    import transformers

    import torch_passes

    torch_passes.configure(args.threads)
    clock = peer.Clock()
    model = load(args.model, getattr(torch, args.dtype))
    load_ms = clock.ms()
    if not args.text_guidance:
        without_text_guidance(model)
    stages = Stages(model)
    speak(model, stages, args, WARM_UP_FRAMES)
    runs = [speak(model, stages, args, args.frames) for _ in range(args.repeats)]
    all_ms = [ms for run in runs for ms in run["frame_ms"]]
    audio_ms = 1e3 * args.frames * samples_of(model.config) / SAMPLE_RATE
    version = f"transformers {transformers.__version__}, torch {torch.__version__}, diffusers {diffusers.__version__}"
    settings = {name: getattr(args, name) for name in
                ("frames", "repeats", "threads", "dtype", "prompt_tokens", "steps", "guidance", "text_guidance")}
    peer.publish(out, load_ms, version, dict(
        settings, prompt_ms=spread([run["prompt_ms"] for run in runs]), frame_ms=spread(all_ms),
        stage_ms={name: statistics.median(ms for run in runs for ms in run["stage_ms"][name]) for name in stages.seconds},
        realtime_factor=spread([sum(run["frame_ms"]) / audio_ms for run in runs])))


main()
