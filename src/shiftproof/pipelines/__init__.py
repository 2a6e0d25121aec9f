"""Complete pipelines, from images to a result; each command of the command line runs one of them."""

from shiftproof.pipelines.corrupt import Corruption, corrupt
from shiftproof.pipelines.evaluate import Evaluation, evaluate
from shiftproof.pipelines.predict import Prediction, predict

__all__ = ["Corruption", "Evaluation", "corrupt", "Prediction", "evaluate", "predict"]
