"""Training: the plain step, the loop over it, checkpoints and logs.

    step = train.TrainStep(
        net, {"x": ("N", 1, 28, 28)}, {"labels": (("N",), "int32")},
        lambda y, labels: nn.losses.cross_entropy(y, labels), optim.Adam(1e-3),
    )
    for x, labels in loader:
        loss = step(x, labels).loss

`Trainer` adds epochs, validation, checkpoints that resume exactly, logs and early stopping.
"""

from .checkpoint import load_checkpoint, save_checkpoint
from .finetune import add_lora, freeze, merge_lora
from .layerwise import LayerwiseStep
from .memory import StepMemory
from .providers import FolderWeights, WeightProvider
from .step import StepResult, TrainStep
from .trainer import History, Trainer

__all__ = [
    "FolderWeights",
    "History",
    "LayerwiseStep",
    "StepMemory",
    "StepResult",
    "TrainStep",
    "Trainer",
    "WeightProvider",
    "add_lora",
    "freeze",
    "load_checkpoint",
    "merge_lora",
    "save_checkpoint",
]
