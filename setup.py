import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "specgan_tf/__init__.py").read_text()
)[1]
LITERT = (
    "ai-edge-litert"  # runs .tflite files; tf.lite.Interpreter is leaving TensorFlow
)
BENCHMARKS = [
    "torch>=2.4",  # the twin compared with
    "matplotlib",  # the pictures
    "pocketsphinx>=5",  # the third recogniser of digits
]
DOCS = [  # make docs; ruff formats the signatures
    "mkdocs>=1.6,<2",
    "mkdocstrings[python]>=1.0",
    "ruff",
]
NOTEBOOK = ["nbclient", "ipykernel"]  # run examples/specgan.ipynb
SERVE = [  # specgan-serve
    "starlette>=1.0",
    "uvicorn>=0.50",
    "anyio>=4",  # these two come with the others; ours imports them too
    "h11>=0.16",
    "orjson>=3.11",
    "prometheus_client>=0.20",
]
ONNX = ["tf2onnx>=1.17", "onnx", "onnxruntime"]  # export.py --formats onnx
GPU = ["tensorflow[and-cuda]>=2.21"]  # with NVIDIA's CUDA libraries; Linux only
# TensorFlow Serving's messages: what ours must parse as
SERVING_API = "tensorflow-serving-api>=2.21"
RESAMPY = "resampy>=0.4"  # --data_resample kaiser_best, the reference's resampler

setup(
    name="specgan_tf",
    version=VERSION,
    description="SpecGAN in TensorFlow 2 and Keras 3: learns to generate audio",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["specgan_tf", "specgan_tf.*"]),
    package_data={
        "specgan_tf": [
            "py.typed",
            "data/provenance.csv",
            "data/drums/*.wav",
            "data/models/*/*",
        ],
        "specgan_tf.report": ["*.html", "*.css"],
    },
    entry_points={
        "console_scripts": [
            "specgan = specgan_tf.cli.run:main",
            "specgan-export = specgan_tf.cli.export:main",
            "specgan-serve = specgan_tf.serve:main",
        ]
    },
    install_requires=[
        "tensorflow>=2.21",
        "keras>=3.10",
        "numpy",
        "scipy",
        "librosa>=0.11",
        "scikit-learn>=1.3",  # nearest neighbours; librosa needs it, too
        "soundfile>=0.12",  # librosa's decoder; 0.12 is the first with MP3
        "soxr>=0.5",  # librosa's resampler
        "filelock",  # one training a folder
        "jinja2>=3.1",  # the report's template
        "pillow>=10.1",  # contact sheets; 10.1 is the first with a font at any size
        "tensorboard",  # tf.summary writes through it
    ],
    extras_require={
        "litert": [LITERT],
        "onnx": ONNX,
        "resampy": [RESAMPY],
        "benchmarks": BENCHMARKS,
        "docs": DOCS,
        "gpu": GPU,
        "serve": SERVE,
        "test": [
            LITERT,
            RESAMPY,
            *NOTEBOOK,
            *ONNX,
            *SERVE,
            SERVING_API,
            "pytest",
            "pytest-xdist",
            "ruff",
            "selenium",
        ],
    },
)
