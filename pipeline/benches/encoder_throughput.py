"""Both encoders in Python with ONNX Runtime, one thread, content in and vector out.

encoder_throughput.py MODELS_DIR SENTENCES_FILE IMAGES_DIR IMAGES_COUNT
Prints one line a measurement, as the Rust example does. Texts go in batches of 32, sorted by length
and padded, which is the fastest way here; images one a call, likewise.
"""

import pathlib
import sys
import time

import numpy
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer

BATCH = 32


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def unit(rows):
    return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)


def encode_texts(model, tokenizer, texts):
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for start in range(0, len(order), BATCH):
        batch = tokenizer.encode_batch([texts[i] for i in order[start : start + BATCH]])
        mask = numpy.array([e.attention_mask for e in batch], dtype=numpy.int64)
        inputs = {
            "input_ids": numpy.array([e.ids for e in batch], dtype=numpy.int64),
            "attention_mask": mask,
            "token_type_ids": numpy.array([e.type_ids for e in batch], dtype=numpy.int64),
        }
        hidden = model.run(None, inputs)[0]
        unit((hidden * mask[:, :, None]).sum(axis=1))


def encode_image(model, path):
    image = Image.open(path).convert("RGB").resize((224, 224), Image.BICUBIC)
    pixels = (numpy.asarray(image, dtype=numpy.float32) - 127) / 128
    unit(model.run(None, {"pixel_values": pixels.transpose(2, 0, 1)[None]})[0].reshape(1, -1))


def main():
    models, sentences, images, count = sys.argv[1:5]
    models = pathlib.Path(models)

    tokenizer = Tokenizer.from_file(str(models / "all-minilm-l6-v2/tokenizer.json"))
    tokenizer.enable_truncation(128)
    tokenizer.enable_padding()
    model = session(models / "all-minilm-l6-v2/model.onnx")
    texts = pathlib.Path(sentences).read_text().splitlines()
    encode_texts(model, tokenizer, texts[:1])
    start = time.perf_counter()
    encode_texts(model, tokenizer, texts)
    print(f"onnxruntime sentences/s {len(texts) / (time.perf_counter() - start):.1f}")

    model = session(models / "efficientnet-lite0/model.onnx")
    paths = sorted(pathlib.Path(images).iterdir())[: int(count)]
    encode_image(model, paths[0])
    start = time.perf_counter()
    for path in paths:
        encode_image(model, path)
    print(f"onnxruntime images/s {len(paths) / (time.perf_counter() - start):.1f}")


if __name__ == "__main__":
    main()
