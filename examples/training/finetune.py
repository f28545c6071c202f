"""Fine-tuning EfficientNet-Lite0 on a folder of images: a new head on a pretrained body.

Without ``--data`` it draws its images: five kinds of shapes, 24 images each to learn from (a sixth
of them for validation) and 12 to test with. With ``--data FOLDER`` it reads
``FOLDER/train/CLASS/*.png`` and ``FOLDER/test/...``.
The trained network is written as ``finetuned.dlk`` and ``finetuned.onnx``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from common import classification, finish, hold_out, options
from dlk import data, nn, optim, train, zoo
from drawn import write_folders


def pretrained(classes: int, seed: int) -> nn.Module:
    """The network with ImageNet's weights and a new, untrained last layer."""
    graph = zoo.build("efficientnet_lite0")
    state = {v.name: np.array(v.data) for v in graph.values if v.kind == "constant"}
    net = zoo.module("efficientnet_lite0", classes)
    net.initialize(seed)
    own = dict(net.named_parameters())
    net.load_state_dict(
        {n: a for n, a in state.items() if n in own and own[n].shape == a.shape}, strict=False
    )
    return net


def main() -> None:
    parser = options("finetune", 8, __doc__)
    parser.add_argument("--data", type=Path, help="a folder with train/CLASS and test/CLASS")
    parser.add_argument("--size", type=int, default=96, help="side of the images, in pixels")
    parser.add_argument("--all", action="store_true", help="train the body too")
    arguments = parser.parse_args()
    folder = arguments.data
    if folder is None:
        folder = arguments.folder / "drawn"
        if not (folder / "test").is_dir():
            write_folders(folder)
    side = (arguments.size, arguments.size)
    training, test = (data.ImageFolder(folder / part, side) for part in ("train", "test"))
    learnt, validation = hold_out(training, len(training) // 6)
    net = pretrained(len(training.classes), arguments.seed)
    if not arguments.all:
        train.freeze(net, keep=lambda name: name.startswith("_fc."))
    numbers = data.normalize([0.498] * 3, [0.502] * 3)
    step = train.TrainStep(
        net, {"image": ("N", 3, *side)}, {"labels": (("N",), "int32")}, classification,
        optim.Adam(2e-4 if arguments.all else 5e-3), device=arguments.device, seed=arguments.seed,
    )  # fmt: skip
    trainer = train.Trainer(
        step,
        data.DataLoader(learnt, 20, shuffle=True, seed=arguments.seed,
                        transform=data.Compose(data.random_flip(), numbers)),
        data.DataLoader(validation, 20, transform=numbers),
        folder=arguments.folder,
    )  # fmt: skip
    finish(arguments, trainer, data.DataLoader(test, 20, transform=numbers))
    for kind in ("dlk", "onnx"):
        trainer.export(arguments.folder / f"finetuned.{kind}")


if __name__ == "__main__":
    main()
