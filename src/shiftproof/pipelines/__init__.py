"""What a trained detector is asked to do: score a labelled set, or look at images nobody has labelled."""

from shiftproof.pipelines.corrupt import Corruption, corrupt
from shiftproof.pipelines.evaluate import Evaluation, evaluate
from shiftproof.pipelines.predict import Prediction, predict

__all__ = ["Corruption", "Evaluation", "corrupt", "Prediction", "evaluate", "predict"]
