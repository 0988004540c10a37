"""Arrays and tables of numpy, pandas, polars, pyarrow and torch.

None of these is imported here: an object of theirs can only exist if the user imported them.
Buffers are hashed as they lie in memory, without a copy.
"""

from __future__ import annotations

import sys
from typing import Any

from ._encoder import Encoder, Handler, Steps, type_name
from ._instances import referents

__all__ = ["handler_for"]


def handler_for(kind: type) -> Handler | None:
    """The handler of an array type, if ``kind`` is one or derives from one."""
    for base in kind.__mro__:
        module = getattr(base, "__module__", "")
        top = module.partition(".")[0] if isinstance(module, str) else ""
        handler = _BY_LIBRARY.get(top)
        if handler is not None and base.__name__ in handler:
            return handler[base.__name__]
    return None


def _ndarray(encoder: Encoder, value: Any) -> Steps:
    if encoder.met(value):
        return
    numpy: Any = sys.modules["numpy"]
    encoder.component.libraries["numpy.ndarray"] = None
    encoder.mark("ndarray")
    if type(value) is not numpy.ndarray:
        yield type(value)
        if isinstance(value, numpy.ma.MaskedArray):
            yield numpy.ma.getmaskarray(value)
            yield value.fill_value
            value = value.data
    value = numpy.asarray(value)
    encoder.text(str(value.dtype.descr) if value.dtype.names else value.dtype.str)
    yield value.shape
    if value.dtype.hasobject:
        if value.dtype.names:
            yield [tuple(item) for item in value.ravel().tolist()]
        else:
            yield value.ravel().tolist()
        return
    if value.dtype.kind == "T":  # variable-width strings lie outside of the buffer
        yield value.ravel().tolist()
        return
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    encoder.text(order)
    flat = numpy.asarray(value, order=order)
    if not (flat.flags.c_contiguous or flat.flags.f_contiguous):
        flat = numpy.ascontiguousarray(flat)
    if flat.size:
        encoder.write(memoryview(flat.ravel(order="K").view(numpy.uint8)))


def _numpy_scalar(encoder: Encoder, value: Any) -> Steps:
    encoder.component.libraries["numpy.generic"] = None
    encoder.mark("scalar")
    encoder.text(value.dtype.str)
    if value.dtype.hasobject:
        yield value.item()
    else:
        encoder.write(value.tobytes())


def _dtype(encoder: Encoder, value: Any) -> Steps:
    encoder.mark("dtype")
    encoder.text(str(value.descr) if value.names else value.str)
    yield from ()


def _provenance(encoder: Encoder, value: Any) -> Steps:
    encoder.component.libraries[type_name(type(value))] = None
    encoder.opaque(value)
    yield from ()


def _ufunc(encoder: Encoder, value: Any) -> Steps:
    encoder.library(f"numpy.{value.__name__}")
    yield from referents(value)  # the function in one that `frompyfunc` made


def _frame(encoder: Encoder, value: Any) -> Steps:
    if encoder.met(value):
        return
    encoder.component.libraries["pandas.DataFrame"] = None
    encoder.mark("DataFrame")
    if type(value).__name__ != "DataFrame":
        yield type(value)
    yield value.index
    yield value.columns
    for number in range(value.shape[1]):
        yield value.iloc[:, number].array
    yield dict(value.attrs)


def _series(encoder: Encoder, value: Any) -> Steps:
    if encoder.met(value):
        return
    encoder.component.libraries["pandas.Series"] = None
    encoder.mark("Series")
    yield value.name
    yield value.index
    yield value.array
    yield dict(value.attrs)


def _index(encoder: Encoder, value: Any) -> Steps:
    if encoder.met(value):
        return
    encoder.component.libraries["pandas.Index"] = None
    encoder.mark(type(value).__name__)
    yield list(value.names)
    if hasattr(value, "levels"):
        for level, codes in zip(value.levels, value.codes, strict=True):
            yield level
            yield codes
    elif type(value).__name__ == "RangeIndex":
        yield (value.start, value.stop, value.step)
    else:
        encoder.text(str(getattr(value, "freq", None)))
        yield value.array


def _extension_array(encoder: Encoder, value: Any) -> Steps:
    """Any pandas array, through the form that pandas itself gives to numpy."""
    if encoder.met(value):
        return
    encoder.mark("array")
    encoder.text(str(value.dtype))
    if hasattr(value, "codes") and hasattr(value, "categories"):
        yield value.codes
        yield value.categories
        yield value.ordered
        return
    for name in ("_ndarray", "_data"):
        inner = getattr(value, name, None)
        if type(inner).__module__.partition(".")[0] == "numpy":
            yield inner
            yield getattr(value, "_mask", None)
            return
    yield value.to_numpy(dtype=object).tolist()


def _missing(encoder: Encoder, value: Any) -> Steps:
    encoder.mark("NA")
    encoder.text(type(value).__name__)
    yield from ()


def _timestamp(encoder: Encoder, value: Any) -> Steps:
    encoder.mark(type(value).__name__)
    yield value.value
    yield getattr(value, "unit", None)
    encoder.text(str(getattr(value, "tz", None)))


def _polars_frame(encoder: Encoder, value: Any) -> Steps:
    if encoder.met(value):
        return
    import io

    encoder.component.libraries["polars.DataFrame"] = None
    encoder.mark(type(value).__name__)
    frame = value.to_frame() if hasattr(value, "to_frame") else value
    buffer = io.BytesIO()
    frame.write_ipc(buffer)
    encoder.write(buffer.getbuffer())
    yield from ()


def _polars_lazy(encoder: Encoder, value: Any) -> Steps:
    encoder.component.libraries["polars.LazyFrame"] = None
    encoder.mark("LazyFrame")
    try:
        yield value.serialize()
    except Exception:
        encoder.opaque(value)


def _arrow(encoder: Encoder, value: Any) -> Steps:
    if encoder.met(value):
        return
    arrow: Any = sys.modules["pyarrow"]
    encoder.component.libraries["pyarrow.Table"] = None
    encoder.mark(type(value).__name__)
    table = value
    if not isinstance(value, (arrow.Table, arrow.RecordBatch)):
        table = arrow.table({"": value})
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    encoder.write(memoryview(sink.getvalue()))
    yield from ()


def _tensor(encoder: Encoder, value: Any) -> Steps:
    if encoder.met(value):
        return
    encoder.component.libraries["torch.Tensor"] = None
    encoder.mark("Tensor")
    encoder.text(str(value.dtype))
    yield tuple(value.shape)
    yield bool(value.requires_grad)
    flat = value.detach().cpu().contiguous()
    try:
        yield flat.numpy()
    except TypeError:  # bfloat16 and others that numpy does not have
        torch: Any = sys.modules["torch"]
        yield flat.view(torch.uint8).numpy()


_BY_LIBRARY: dict[str, dict[str, Handler]] = {
    "numpy": {
        "ndarray": _ndarray,
        "generic": _numpy_scalar,
        "dtype": _dtype,
        "ufunc": _ufunc,
        "Generator": _provenance,
        "RandomState": _provenance,
        "BitGenerator": _provenance,
    },
    "pandas": {
        "DataFrame": _frame,
        "Series": _series,
        "Index": _index,
        "ExtensionArray": _extension_array,
        "NAType": _missing,
        "NaTType": _missing,
        "Timestamp": _timestamp,
        "Timedelta": _timestamp,
    },
    "polars": {"DataFrame": _polars_frame, "Series": _polars_frame, "LazyFrame": _polars_lazy},
    "pyarrow": {
        "Table": _arrow,
        "RecordBatch": _arrow,
        "Array": _arrow,
        "ChunkedArray": _arrow,
    },
    "torch": {"Tensor": _tensor, "Generator": _provenance},
}
