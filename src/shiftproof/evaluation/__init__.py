"""What a trained detector is asked to do: score a labelled set, or look at images nobody has labelled."""

from shiftproof.evaluation.corrupt import Corruption, corrupt
from shiftproof.evaluation.evaluate import Evaluation, evaluate
from shiftproof.evaluation.predict import Prediction, predict

__all__ = ["Corruption", "Evaluation", "corrupt", "Prediction", "evaluate", "predict"]
