"""Training and self-training of strip classifiers, their evaluation and their checkpoints."""

from fastrnn.training.callbacks import Callback, StepInfo
from fastrnn.training.checkpoint import CheckpointError
from fastrnn.training.config import TrainingConfig
from fastrnn.training.evaluation import Evaluation, evaluate, predict_probabilities
from fastrnn.training.history import EpochRecord, TrainingResult
from fastrnn.training.metrics import ClassScores, class_scores, confusion_matrix
from fastrnn.training.pseudo_labels import ConfidenceThreshold, KBest, PseudoLabeller
from fastrnn.training.rounds import RoundReport, SelfTrainingResult
from fastrnn.training.search_space import Choice, Range, SearchSpace
from fastrnn.training.self_training import SelfTrainer
from fastrnn.training.self_training_config import SelfTrainingConfig
from fastrnn.training.tensorboard import TensorBoardCallback
from fastrnn.training.trainer import Trainer
from fastrnn.training.training_run import NonFiniteLossError
from fastrnn.training.tuning import Tuner, TuningResult

__all__ = [
    "Callback",
    "CheckpointError",
    "Choice",
    "ClassScores",
    "ConfidenceThreshold",
    "EpochRecord",
    "Evaluation",
    "KBest",
    "NonFiniteLossError",
    "PseudoLabeller",
    "Range",
    "RoundReport",
    "SearchSpace",
    "SelfTrainer",
    "SelfTrainingConfig",
    "SelfTrainingResult",
    "StepInfo",
    "TensorBoardCallback",
    "Trainer",
    "TrainingConfig",
    "TrainingResult",
    "Tuner",
    "TuningResult",
    "class_scores",
    "confusion_matrix",
    "evaluate",
    "predict_probabilities",
]
