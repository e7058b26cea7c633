"""Qwen3-TTS as the public `qwen-tts` package runs it on the CPU: what a frame of speech takes, and its sound.

It takes a checkpoint with voices of its own, as released or as `engine synth` writes it. The end is never chosen,
so exactly so many frames are made, whatever the weights say; all else is drawn as the checkpoint says. Prints one
JSON object; times are in ms. It knows the package and nothing of the engine.

The package needs another transformers than requirements.txt has, so an environment of its own:

    pip install torch==2.13.0 transformers==4.57.3 accelerate==1.12.0 einops==0.8.2 safetensors==0.8.0 numpy==2.4.6
    pip install --no-deps qwen-tts==0.1.1
"""

import argparse
import contextlib
import json
import re
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import peer

FIXTURES = Path(__file__).resolve().parents[2] / "engine/tests/fixtures/qwen3tts"
CODEC = "speech_tokenizer"
WARM_UP_FRAMES = 2
TEXT = "The library opens at nine in the morning, and the cafe beside it an hour later."
# What the encoder alone reads: a checkpoint that only speaks may lack it.
ENCODER_ONLY = re.compile(r"quantizer\.rvq_\w+\.input_proj\.")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint directory")
    parser.add_argument("--frames", type=at_least_one, default=20, help="frames that are timed in a run")
    parser.add_argument("--repeats", type=at_least_one, default=3, help="runs, after one that is not timed")
    parser.add_argument("--threads", type=at_least_one, default=2)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16", help="of talker and codec")
    parser.add_argument("--text", default=TEXT, help="what is said, by the checkpoint's first speaker")
    return parser.parse_args()


def at_least_one(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


# The checkpoint.


def settings(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"error: {path}: {error}\nhint: give the folder of a Qwen3-TTS checkpoint, with its {CODEC}")


def without_gaps(tokenizer):
    """The same with words that no text has for the ids that are missing, or None where none are. The tokenizers
    library would list each of them, and the special tokens of the release leave a gap of some 150,000 if the rest of
    the vocabulary is small."""
    vocab = tokenizer["model"]["vocab"]
    unused = set(range(max(vocab.values()))) - set(vocab.values())
    vocab |= {f"<unused {at}>": at for at in sorted(unused)}
    return tokenizer if unused else None


def amended(folder):
    """The files that the package needs otherwise, by their path in the folder."""
    from package import SMALL_ENCODER

    files = {}
    codec = settings(folder / CODEC / "config.json")
    if "encoder_config" not in codec:
        files[f"{CODEC}/config.json"] = dict(codec, encoder_config=SMALL_ENCODER)
    if (folder / "tokenizer.json").exists():
        if tokenizer := without_gaps(settings(folder / "tokenizer.json")):
            files["tokenizer.json"] = tokenizer
    return files


@contextlib.contextmanager
def openable(folder):
    """The checkpoint as the package can open it: its own folder, or one of links to its files, with a few amended."""
    kind = settings(folder / "config.json").get("tts_model_type")
    if kind != "custom_voice":
        sys.exit(f"error: {folder / 'config.json'}: tts_model_type is {kind!r}, not 'custom_voice'\n"
                 "hint: give a checkpoint with voices of its own (CustomVoice)")
    files = amended(folder)
    if not files:
        yield folder
        return
    with tempfile.TemporaryDirectory() as made:
        made = Path(made)
        (made / CODEC).mkdir()
        for file in [*folder.iterdir(), *(folder / CODEC).iterdir()]:
            name = file.relative_to(folder)
            if file.is_file() and str(name) not in files:
                (made / name).symlink_to(file.resolve())
        for name, content in files.items():
            (made / name).write_text(json.dumps(content))
        yield made


def filed(folder):
    """Names of the tensors in a folder's files."""
    from safetensors import safe_open

    names = set()
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            names.update(tensors.keys())
    return names


def check_tensors(folder, tts):
    """Ends where the files lack a tensor: the package fills it with random numbers, and only warns."""
    codec = tts.model.speech_tokenizer.model
    for place, model, read in ((folder, tts.model, ""), (folder / CODEC, codec, "decoder.")):
        names = {name for name in model.state_dict() if name.startswith(read) and not ENCODER_ONLY.search(name)}
        if missing := sorted(names - filed(place)):
            sys.exit(f"error: {place}: {len(missing)} tensors of the model are not filed, the first is {missing[0]}\n"
                     "hint: give a whole checkpoint of Qwen3-TTS")


# A run.


class Clocked:
    """Never lets the end be chosen, and notes when each first code of a frame is, and how long the predictor has taken
    until then. From one choice to the next is a whole frame: choice, predictor, and the talker's pass over its row."""

    def __init__(self, talker):
        self.end = talker.config.codec_eos_token_id
        self.begin()
        whole, predictor = talker.generate, talker.code_predictor.generate

        def generate(**given):
            return whole(**given, logits_processor=[self])

        def predict(**given):
            begun = time.perf_counter()
            codes = predictor(**given)
            self.predictor += time.perf_counter() - begun
            return codes

        def count(module, args, given):
            self.rows = self.rows or given["inputs_embeds"].shape[1]

        talker.generate, talker.code_predictor.generate = generate, predict
        talker.model.register_forward_pre_hook(count, with_kwargs=True)

    def begin(self):
        self.moments, self.predictors = [], []
        self.predictor, self.rows = 0.0, None

    def __call__(self, input_ids, scores):
        self.moments.append(time.perf_counter())
        self.predictors.append(self.predictor)
        scores = scores.clone()
        scores[:, self.end] = float("-inf")
        return scores


class Decoded:
    """Notes how long the codec takes for the sound of a run, and of how many frames."""

    def __init__(self, codec):
        self.seconds, self.frames = 0.0, 0
        whole = codec.decode

        def decode(encoded):
            begun = time.perf_counter()
            sound = whole(encoded)
            self.seconds = time.perf_counter() - begun
            self.frames = len(encoded[0]["audio_codes"])
            return sound

        codec.decode = decode


def speak(tts, clocked, decoded, text, frames):
    """The ms of the prompt, of each frame and its parts, and of the sound of a frame."""
    import numpy
    import torch

    torch.manual_seed(0)
    clocked.begin()
    begun = time.perf_counter()
    # The last first code has no frame: the package makes nothing of it.
    sounds, rate = tts.generate_custom_voice(text, first_speaker(tts), "Auto", max_new_tokens=frames + 1)
    samples = frames * tts.model.speech_tokenizer.get_decode_upsample_rate()
    if (decoded.frames, len(clocked.moments), sounds[0].shape) != (frames, frames + 1, (samples,)):
        sys.exit(f"error: {decoded.frames} frames, {len(clocked.moments)} choices, sound of shape {sounds[0].shape}, "
                 f"not {frames}, {frames + 1} and ({samples},)\n"
                 "hint: another version of qwen-tts than 0.1.1 may end elsewhere")
    if not numpy.isfinite(sounds[0]).all():
        sys.exit("error: the sound is not finite\nhint: try --dtype float32")
    differences = lambda seconds: [1e3 * (after - before) for before, after in zip(seconds, seconds[1:])]
    frame_ms, predictor_ms = differences(clocked.moments), differences(clocked.predictors)
    return dict(
        rows=clocked.rows, prompt_ms=1e3 * (clocked.moments[0] - begun), frame_ms=frame_ms, predictor_ms=predictor_ms,
        talker_ms=[whole - predictor for whole, predictor in zip(frame_ms, predictor_ms)],
        codec_ms=1e3 * decoded.seconds / frames, audio_ms=1e3 * samples / rate)


def first_speaker(tts):
    return next(iter(tts.model.get_supported_speakers()))


def spread(values):
    values = list(values)
    return dict(median=statistics.median(values), min=min(values), max=max(values))


def main():
    args = arguments()
    out = peer.divert_stdout()
    import torch
    from transformers.utils import logging

    sys.path.append(str(FIXTURES))
    import torch_passes
    from package import Qwen3TTSModel

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch_passes.configure(args.threads)
    with openable(args.model) as folder:
        clock = peer.Clock()
        tts = Qwen3TTSModel.from_pretrained(str(folder), dtype=getattr(torch, args.dtype))
        load_ms = clock.ms()
    check_tensors(args.model, tts)
    codec = tts.model.speech_tokenizer
    clocked, decoded = Clocked(tts.model.talker), Decoded(codec)
    speak(tts, clocked, decoded, args.text, WARM_UP_FRAMES)
    runs = [speak(tts, clocked, decoded, args.text, args.frames) for _ in range(args.repeats)]
    of_frames = lambda name: spread(ms for run in runs for ms in run[name])
    of_runs = lambda value: spread(value(run) for run in runs)
    versions = ", ".join(f"{package} {version(package)}" for package in ("qwen-tts", "transformers", "torch"))
    peer.publish(out, load_ms, versions, dict(
        {name: getattr(args, name) for name in ("frames", "repeats", "threads", "dtype", "text")},
        speaker=first_speaker(tts), prompt_rows=runs[0]["rows"],
        frame_samples=codec.get_decode_upsample_rate(), sample_rate=codec.get_output_sample_rate(),
        prompt_ms=of_runs(lambda run: run["prompt_ms"]), frame_ms=of_frames("frame_ms"),
        stage_ms=dict(talker=of_frames("talker_ms"), predictor=of_frames("predictor_ms")),
        codec_frame_ms=of_runs(lambda run: run["codec_ms"]),
        realtime_factor_of_codes=of_runs(lambda run: sum(run["frame_ms"]) / run["audio_ms"]),
        realtime_factor=of_runs(lambda run: (sum(run["frame_ms"]) + args.frames * run["codec_ms"]) / run["audio_ms"])))



main()
