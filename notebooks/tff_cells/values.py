"""What `%%tff --out` brings back: numbers, texts, lists, arrays and tables, as JSON.

Neither pickles, which depend on the versions of both sides, nor files, which need packages on both.
"""

import json


def dump(value):
    """JSON of a value.

    Raises:
      TypeError: If it is of another type.
    """
    return json.dumps(_plain(value), ensure_ascii=True, default=_plain)


def load(text):
    """The value again; tables need pandas, arrays NumPy."""
    return json.loads(text, object_hook=_rebuilt)


def _plain(value):
    kind, package = type(value).__name__, type(value).__module__.partition(".")[0]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value if package == "builtins" else value.item()  # np.float64 is a float, too
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if package == "numpy" and kind == "ndarray" and value.dtype.kind in "biufU":
        return {"__array__": value.tolist(), "dtype": str(value.dtype)}
    if package == "numpy" and hasattr(value, "item"):
        return _plain(value.item())
    if package == "pandas" and kind in ("NAType", "NaTType"):
        return None
    if package == "pandas" and kind == "Series":
        return {"__series__": _plain(value.to_frame()), "name": value.name}
    if package == "pandas" and kind == "DataFrame":
        index = value.index.to_frame(index=False)
        return {
            "__frame__": [_column(value.iloc[:, i]) for i in range(value.shape[1])],
            "columns": list(value.columns),
            "index": [_column(index.iloc[:, i]) for i in range(index.shape[1])],
            "names": list(value.index.names),
        }
    raise TypeError(f"{kind} is not a number, text, list, dict, array, Series or DataFrame")


def _column(series):
    values = series.astype(str) if series.dtype.kind in "mM" else series
    return {"values": [_plain(item) for item in values.tolist()], "dtype": str(series.dtype)}


def _rebuilt(found):
    if "__array__" in found:
        import numpy as np

        return np.array(found["__array__"], dtype=found["dtype"])
    if "__frame__" in found:
        return _frame(found)
    if "__series__" in found:
        return found["__series__"].iloc[:, 0].rename(found["name"])
    return found


def _frame(found):
    import pandas as pd

    levels = [pd.Series(c["values"], dtype=object).astype(c["dtype"]) for c in found["index"]]
    if len(levels) > 1:
        index = pd.MultiIndex.from_arrays(levels, names=found["names"])
    else:
        index = pd.Index(levels[0], name=found["names"][0])
    columns = [pd.Series(c["values"], dtype=object).astype(c["dtype"]) for c in found["__frame__"]]
    frame = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=range(len(index)))
    names = [tuple(name) if isinstance(name, list) else name for name in found["columns"]]
    frame.columns = pd.MultiIndex.from_tuples(names) if names and isinstance(names[0], tuple) else names
    return frame.set_axis(index, axis=0)
