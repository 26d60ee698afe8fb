"""Shapes are [height, width, ...]; flow is in pixels of the first frame, u to the right and v down."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from typing import Any, Literal, Protocol, SupportsIndex, TypeAlias, final, overload

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Bidirectional",
    "DataError",
    "DeviceError",
    "Error",
    "EstimateError",
    "Estimator",
    "FileError",
    "Flows",
    "Frames",
    "NetworkError",
    "Samples",
    "TrainError",
    "Weights",
    "WeightsError",
    "__version__",
    "_address",
    "calc_optical_flow",
    "colorize",
    "consistency",
    "devices",
    "export_onnx",
    "import_weights",
    "load_weights",
    "main",
    "metrics",
    "models",
    "read_flow",
    "read_image",
    "read_video",
    "recipes",
    "resume",
    "synth",
    "train",
    "warp",
    "write_flow",
    "write_image",
]

class _DLPack(Protocol):
    def __dlpack_device__(self) -> tuple[Any, int]: ...

class _ArrayInterface(Protocol):
    @property
    def __array_interface__(self) -> dict[str, Any]: ...

_Array: TypeAlias = NDArray[Any] | _DLPack | _ArrayInterface
_Path: TypeAlias = str | PathLike[str]
_Option: TypeAlias = str | int | float | bool
_Flow: TypeAlias = NDArray[np.float32]
_Image: TypeAlias = NDArray[np.uint8]
_Mask: TypeAlias = NDArray[np.bool_]
_Event: TypeAlias = dict[str, Any]

__version__: str

class Error(Exception): ...
class FileError(Error): ...
class NetworkError(Error): ...
class WeightsError(Error): ...
class DeviceError(Error): ...
class DataError(Error): ...
class EstimateError(Error): ...
class TrainError(Error): ...

@final
class Estimator:
    def __new__(
        cls,
        method: _Path | Weights | None = None,
        *,
        weights: _Path | None = None,
        options: Mapping[str, _Option] | None = None,
        device: str = "cpu",
        fit: Literal["pad", "resize", "crop"] | None = None,
        size: tuple[int, int] | None = None,
        tile: tuple[int, int] | None = None,
        precision: Literal["f32", "bf16"] = "f32",
        exact: bool = False,
        threads: int | None = None,
        stop_below: float | None = None,
    ) -> Estimator: ...
    def __call__(self, first: _Array, second: _Array) -> _Flow: ...
    def both(self, first: _Array, second: _Array) -> Bidirectional: ...
    @overload
    def video(self, source: _Path | Iterable[_Array], *, both: Literal[False] = False) -> Iterator[_Flow]: ...
    @overload
    def video(self, source: _Path | Iterable[_Array], *, both: Literal[True]) -> Iterator[Bidirectional]: ...
    @property
    def name(self) -> str: ...
    def __getnewargs_ex__(self) -> tuple[tuple[Any], dict[str, Any]]: ...

@final
class Bidirectional:
    @property
    def forward(self) -> _Flow: ...
    @property
    def backward(self) -> _Flow: ...
    @property
    def occluded(self) -> _Mask: ...
    @property
    def error(self) -> NDArray[np.float32]: ...
    @property
    def confidence(self) -> NDArray[np.float32]: ...

@final
class Flows:
    def __iter__(self) -> Flows: ...
    def __next__(self) -> Any: ...

@final
class Frames:
    def __iter__(self) -> Frames: ...
    def __next__(self) -> _Image: ...

@final
class synth:
    def __new__(
        cls,
        preset: Literal["chairs", "sdhom", "things", "auto", "shifts", "world", "wild"] = "chairs",
        *,
        seed: int = 1,
        size: tuple[int, int] | None = None,
        start: int = 0,
        step: int = 1,
        count: int | None = None,
        textures: _Path | None = None,
        objects: _Path | None = None,
        effects: bool = True,
        skip_occluded: bool = False,
        threads: int = 1,
    ) -> synth: ...
    def __iter__(self) -> Samples: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, key: SupportsIndex, /) -> tuple[_Image, _Image, _Flow, _Mask]: ...
    @overload
    def __getitem__(self, key: slice, /) -> synth: ...
    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]: ...

@final
class Samples:
    def __iter__(self) -> Samples: ...
    def __next__(self) -> tuple[_Image, _Image, _Flow, _Mask]: ...

@final
class Weights:
    def __new__(
        cls,
        model: str,
        state_dict: Mapping[str, NDArray[Any]],
        *,
        options: Mapping[str, _Option] | None = None,
        provenance: Mapping[str, str] | None = None,
    ) -> Weights: ...
    @property
    def model(self) -> str: ...
    @property
    def options(self) -> dict[str, str]: ...
    @property
    def provenance(self) -> dict[str, str]: ...
    def state_dict(self) -> dict[str, NDArray[np.float32]]: ...
    def save(self, path: _Path, *, half: bool = False) -> None: ...
    def __getnewargs_ex__(self) -> tuple[tuple[str, dict[str, Any]], dict[str, Any]]: ...

def calc_optical_flow(
    prev: _Array, next: _Array, flow: _Flow | None = None, *, estimator: Estimator | None = None
) -> _Flow: ...
def devices() -> list[str]: ...
def read_flow(path: _Path) -> _Flow: ...
def write_flow(path: _Path, flow: _Array, *, clip: bool = False) -> None: ...
def read_image(path: _Path) -> _Image: ...
def write_image(path: _Path, image: _Array) -> None: ...
def read_video(path: _Path) -> Frames: ...
def colorize(
    flow: _Array, *, style: Literal["wheel", "hsv", "rgb"] = "wheel", scale: float | None = None
) -> _Image: ...
def warp(frame: _Array, flow: _Array) -> tuple[_Image, _Mask]: ...
def metrics(
    estimate: _Array, truth: _Array, *, valid: _Array | None = None, occluded: _Array | None = None
) -> dict[str, Any]: ...
def consistency(
    forward: _Array, backward: _Array, *, alpha1: float = 0.01, alpha2: float = 0.5
) -> tuple[_Mask, NDArray[np.float32], NDArray[np.float32]]: ...
def load_weights(
    source: _Path | None = None, *, model: str | None = None, options: Mapping[str, _Option] | None = None
) -> Weights: ...
def import_weights(
    path: _Path,
    *,
    model: str | None = None,
    options: Mapping[str, _Option] | None = None,
    key: str | None = None,
    ignore_extra: bool = False,
    licence: str | None = None,
    trained_on: str | None = None,
) -> Weights: ...
def export_onnx(
    path: _Path,
    weights: Weights | None = None,
    *,
    size: tuple[int, int] | None = None,
    batch: int | None = 1,
    opset: int = 17,
    half: bool = False,
) -> None: ...
def models() -> dict[str, dict[str, Any]]: ...
def recipes() -> dict[str, str]: ...
def train(
    recipe: _Path | dict[str, Any],
    out: _Path,
    *,
    callback: Callable[[_Event], object] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    **changes: Any,
) -> dict[str, Any]: ...
def resume(
    out: _Path,
    *,
    callback: Callable[[_Event], object] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    **changes: Any,
) -> dict[str, Any]: ...
def main(args: list[str]) -> int: ...
def _address(frame: _Array) -> int: ...
