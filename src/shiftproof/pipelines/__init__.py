"""Complete pipelines, from images to a result; each command of the command line runs one of them."""

from shiftproof.pipelines.corrupt import Corruption, corrupt
from shiftproof.pipelines.evaluate import evaluate
from shiftproof.pipelines.predict import Prediction, predict

__all__ = ["Corruption", "corrupt", "Prediction", "evaluate", "predict"]
