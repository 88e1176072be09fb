"""Which package on the public index a module comes from, for modules that data science imports.

Only what stands here is ever proposed. A package that merely has the name of a module may be anybody's, so every other
module is left to a person.
"""

import sys
from collections.abc import Iterable

_RENAMED = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "google.protobuf": "protobuf",
    "jwt": "pyjwt",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "tensorflow": "tensorflow-cpu",
    "yaml": "pyyaml",
}
_SAME = frozenset(
    {
        *(
            "accelerate",
            "aiohttp",
            "altair",
            "bokeh",
            "boto3",
            "catboost",
            "click",
            "dash",
            "dask",
            "datasets",
            "duckdb",
        ),
        *("evaluate", "fastapi", "flask", "gensim", "geopandas", "gradio", "grpc", "gunicorn", "h5py", "httpx"),
        *("huggingface_hub", "imageio", "imblearn", "ipywidgets", "jax", "jinja2", "joblib", "keras", "keras_tuner"),
        *("langchain", "librosa", "lightgbm", "loguru", "lxml", "matplotlib", "mlflow", "networkx", "nltk", "numba"),
        *("numpy", "onnx", "onnxruntime", "openai", "openpyxl", "optuna", "pandas", "peft", "plotly", "polars"),
        *("prophet", "psutil", "psycopg", "pyarrow", "pydantic", "pymongo", "pytest", "redis", "requests", "rich"),
        *("safetensors", "scipy", "seaborn", "sentence_transformers", "sentencepiece", "shap", "spacy", "sqlalchemy"),
        *("starlette", "statsmodels", "streamlit", "sympy", "tensorboard", "tiktoken", "tokenizers", "torch"),
        *("torchaudio", "torchvision", "tqdm", "transformers", "urllib3", "uvicorn", "wandb", "xarray", "xgboost"),
    }
)
_OTHER_NAMES = {"grpc": "grpcio", "imblearn": "imbalanced-learn"}


def packages(modules: Iterable[str], own: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Packages that bring `modules`, and the modules of which nobody here knows where they come from; both sorted.

    Modules of Python itself and those in `own` need no package.
    """
    foreign = {one for one in modules if one not in sys.stdlib_module_names} - set(own)
    known = {
        one: _RENAMED.get(one) or _OTHER_NAMES.get(one) or one.replace("_", "-")
        for one in foreign
        if one in _RENAMED or one in _SAME
    }
    return tuple(sorted(set(known.values()))), tuple(sorted(foreign - set(known)))
