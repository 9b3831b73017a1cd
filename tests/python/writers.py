"""Random logs as other programs write them, and what pyarrow reads of the same bytes.

    writers.py FOLDER SEED CASES

Makes CASES folders in FOLDER, each with a log and `case.json`: the settings of `source` that it needs, and what every row is:
an event, or the reason why it is none. The rows are those that pyarrow reads of the file; the rules are written down here once
more, by somebody who has not read the program (docs/formats.md is what both follow).
"""

import datetime as dt
import decimal
import json
import math
import os
import random
import re
import sys
import uuid
import zoneinfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAY = 86_400_000
FIRST, END = 365 * DAY, 4_133_980_800_000  # 1971 up to 2100
MAX_ID = 1024
# Zones by their names, where Python has a database of them.
NAMED_ZONES = sorted({"Europe/Berlin", "America/New_York", "Asia/Kolkata"} & zoneinfo.available_timezones())


class Rejected(Exception):
    pass


# ---- columns: how a field is stored, by its writer ----


def ids(draw, n):
    """Identifiers as numbers below a small bound, so that every type can hold them."""
    return [draw.randrange(100) for _ in range(n)]


def with_nulls(draw, values):
    share = draw.choice([0] * 14 + [0.1] * 3 + [0.9, 1])
    return [None if draw.random() < share else value for value in values]


def mapped(values, of):
    return [None if value is None else of(value) for value in values]


def odd_text(draw, number):
    return draw.choice([f"u{number}", "", f"é{number}🦀", "x" * draw.choice([1, 200, 1024, 1025]), f"{number}", " ", "a.b"])


def id_column(draw, n):
    values = with_nulls(draw, ids(draw, n))
    kind = draw.choice(ID_TYPES)
    return ID_TYPES_TABLE[kind](draw, values)


ID_TYPES_TABLE = {
    "string": lambda d, v: pa.array(mapped(v, lambda x: odd_text(d, x) if d.random() < 0.05 else f"i{x}"), pa.string()),
    "large_string": lambda d, v: pa.array(mapped(v, str), pa.large_string()),
    "string_view": lambda d, v: pa.array(mapped(v, str), pa.string_view()),
    "dictionary": lambda d, v: pa.array(mapped(v, str), pa.string()).dictionary_encode(),
    "binary": lambda d, v: pa.array(mapped(v, lambda x: b"\xff" if x == 7 else b"b%d" % x), pa.binary()),
    "large_binary": lambda d, v: pa.array(mapped(v, lambda x: b"b%d" % x), pa.large_binary()),
    "fixed_binary": lambda d, v: pa.array(mapped(v, lambda x: b"%04d" % x), pa.binary(4)),
    "uuid": lambda d, v: pa.array(mapped(v, lambda x: uuid.UUID(int=x * 7 ** 30).bytes), pa.uuid()),
    "int8": lambda d, v: pa.array(mapped(v, lambda x: x - 50), pa.int8()),
    "int16": lambda d, v: pa.array(mapped(v, lambda x: x * 300 - 50), pa.int16()),
    "int32": lambda d, v: pa.array(mapped(v, lambda x: x * 9 ** 7), pa.int32()),
    "int64": lambda d, v: pa.array(mapped(v, lambda x: x * -(9 ** 15)), pa.int64()),
    "uint8": lambda d, v: pa.array(v, pa.uint8()),
    "uint16": lambda d, v: pa.array(v, pa.uint16()),
    "uint32": lambda d, v: pa.array(mapped(v, lambda x: x + 2 ** 31), pa.uint32()),
    "uint64": lambda d, v: pa.array(mapped(v, lambda x: x + 2 ** 63), pa.uint64()),
    "decimal38": lambda d, v: pa.array(mapped(v, lambda x: decimal.Decimal(x * 10 ** 30 - 5)), pa.decimal128(38, 0)),
    "decimal9": lambda d, v: pa.array(mapped(v, decimal.Decimal), pa.decimal128(9, 0)),
    "decimal_scaled": lambda d, v: pa.array(
        mapped(v, lambda x: decimal.Decimal(x) + (decimal.Decimal("0.25") if x == 3 else 0)), pa.decimal128(20, 2)
    ),
    "decimal256": lambda d, v: pa.array(mapped(v, lambda x: decimal.Decimal(x) * 10 ** 50), pa.decimal256(60, 0)),
    "float64": lambda d, v: pa.array(mapped(v, lambda x: x + (0.5 if x == 3 else 0)), pa.float64()),
    "float32": lambda d, v: pa.array(mapped(v, float), pa.float32()),
    "null": lambda d, v: pa.nulls(len(v)),
}
ID_TYPES = list(ID_TYPES_TABLE) + ["string"] * 12 + ["int64"] * 4
KIND_TYPES_TABLE = {
    **ID_TYPES_TABLE,
    "bool": lambda d, v: pa.array(mapped(v, lambda x: x % 3 == 0), pa.bool_()),
}


def kind_column(draw, n):
    return KIND_TYPES_TABLE[draw.choice(["bool", "bool", "string", "string", "string", *ID_TYPES])](draw, with_nulls(draw, ids(draw, n)))


def value_column(draw, n):
    values = with_nulls(draw, ids(draw, n))
    odd = [math.nan, math.inf, -math.inf, 0.0, 1e300, 2.5]
    float_of = lambda x: draw.choice(odd) if draw.random() < 0.1 else x / 4
    table = {
        "float64": lambda: pa.array(mapped(values, float_of), pa.float64(), from_pandas=False),
        "float32": lambda: pa.array(mapped(values, lambda x: x / 3), pa.float32()),
        "float16": lambda: pa.array(mapped(values, lambda x: np.float16(x / 8)), pa.float16()),
        "int32": lambda: pa.array(values, pa.int32()),
        "uint64": lambda: pa.array(mapped(values, lambda x: x + 2 ** 63), pa.uint64()),
        "decimal": lambda: pa.array(mapped(values, lambda x: decimal.Decimal(x) / 4), pa.decimal128(10, 2)),
        "null": lambda: pa.nulls(n),
    }
    return table[draw.choice(list(table))]()


def features_column(draw, n):
    texts = lambda x: [f"f{x}", None, "g"][: x % 4]
    values = with_nulls(draw, ids(draw, n))
    table = {
        "list": lambda: pa.array(mapped(values, texts), pa.list_(pa.string())),
        "large_list": lambda: pa.array(mapped(values, texts), pa.large_list(pa.string())),
        "fixed": lambda: pa.array(mapped(values, lambda x: [f"f{x}", "g"]), pa.list_(pa.string(), 2)),
        "integers": lambda: pa.array(mapped(values, lambda x: [x, x + 1][: x % 3]), pa.list_(pa.int32())),
        "null": lambda: pa.nulls(n),
    }
    return table[draw.choice(list(table))]()


UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1, "days": 86_400_000_000_000}


def moments(draw, n):
    """Milliseconds; now and then one that nobody believes."""
    # The last two are half an hour before an hour that clocks in Berlin leave out, and one that they show twice.
    begin = draw.choice([1_700_000_000_000, 978_307_200_000, 32_000_000_000, 1_711_848_600_000, 1_729_992_600_000])
    odd = [0, -1, 86_400_000, 4_133_980_799_999, 4_133_980_800_000]
    return [draw.choice(odd) if draw.random() < 0.03 else begin + k * 60_000 + draw.randrange(1000) for k in range(n)]


def time_text(draw, ms, zoned):
    at = dt.datetime(1970, 1, 1) + dt.timedelta(milliseconds=ms)
    fraction = f".{ms % 1000:03}"
    day, time = at.strftime("%Y-%m-%d"), at.strftime("%H:%M:%S") + fraction
    if not zoned:
        return draw.choice([f"{day}T{time}", f"{day} {time}", f"{day} {time}999"])
    return draw.choice(
        [f"{day}T{time}Z", f"{day}t{time}z", f"{day} {time} UTC", f"{day}T{time}+0000", f"{day}T{time}+00", f"{day} {time}-00:00",
         f"{day}T{time.replace('.', ',')}Z", f"{day}T{time}Z[UTC]", f"{at.strftime('%Y%m%dT%H%M%S')}{fraction}Z"]
    )


def time_column(draw, n, settings):
    """A column, whether it is written as int96, and how many milliseconds of each value are kept."""
    values = with_nulls(draw, moments(draw, n)) if draw.random() < 0.2 else moments(draw, n)
    kind = draw.choice(["ms", "us", "ns", "ms", "us", "int96", "number", "number", "float", "decimal", "text", "digits", "date", "local"])
    zone = draw.choice([None, "UTC", "America/New_York"])
    if draw.random() < 0.3 or kind in ("date", "local"):
        settings["timezone"] = draw.choice(["UTC", "+01:00", "-0530"] + NAMED_ZONES)
    if kind in ("ms", "us", "ns"):
        return pa.array(mapped(values, lambda x: x * 1_000_000 // UNITS[kind]), pa.int64()).cast(pa.timestamp(kind, zone))
    if kind == "int96":
        settings["_int96"] = True
        return pa.array(mapped(values, lambda x: x * 1_000_000), pa.int64()).cast(pa.timestamp("ns"))
    if kind in ("number", "digits", "float", "decimal"):
        unit = draw.choice(["ms", "ms", "s", "us", "ns", "days"] if kind == "number" else ["ms", "s"])
        settings["timestamp_unit"] = unit
        counted = mapped(values, lambda x: x * 1_000_000 // UNITS[unit])
        if kind == "number":
            small = unit in ("s", "days") and all(x is None or abs(x) < 2 ** 31 for x in counted)
            return pa.array(counted, draw.choice([pa.int32(), pa.int64()]) if small else pa.int64())
        if kind == "digits":
            return pa.array(mapped(counted, str), pa.string())
        if kind == "decimal":
            return pa.array(mapped(values, lambda x: decimal.Decimal(x) * 1_000_000 / UNITS[unit]), pa.decimal128(30, 3))
        return pa.array(mapped(values, lambda x: x * 1_000_000 / UNITS[unit]), pa.float64())
    if kind == "date":
        return pa.array(mapped(values, lambda x: x // DAY), pa.int32()).cast(pa.date32())
    return pa.array(mapped(values, lambda x: time_text(draw, x, kind == "text") if x >= 0 else "never"), pa.string())


def spare_columns(draw, n):
    """What nobody reads."""
    made = {
        "spare_map": lambda: pa.array([[("a", 1)]] * n, pa.map_(pa.string(), pa.int32())),
        "spare_struct": lambda: pa.array([{"user_id": "no", "a": [{"b": 1}]}] * n),
        "spare_time": lambda: pa.array([1] * n, pa.time32("ms")),
        "spare_duration": lambda: pa.array([1] * n, pa.duration("us")),
        "spare_null": lambda: pa.nulls(n),
        "spare_lists": lambda: pa.array([[[1], []]] * n, pa.list_(pa.list_(pa.int8()))),
        "USER_ID": lambda: pa.array(["no"] * n),
        "timestamp ": lambda: pa.array(["no"] * n),
    }
    return {name: made[name]() for name in made if draw.random() < 0.15}


# ---- what a row is, by the rules of docs/formats.md ----


def as_text(cell):
    """The text of an identifier, or None where it names nothing."""
    if isinstance(cell, bool):
        return None
    if isinstance(cell, str):
        return cell
    if isinstance(cell, uuid.UUID):
        return str(cell)
    if isinstance(cell, bytes):
        try:
            return cell.decode()
        except UnicodeDecodeError:
            return None
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2 ** 53:
        return str(int(cell))
    if isinstance(cell, decimal.Decimal) and cell == cell.to_integral_value():
        return str(int(cell))
    return None


def identifier(cell):
    if cell is None:
        raise Rejected("missing_field")
    return optional(cell)


def optional(cell):
    if cell is None:
        return None
    text = as_text(cell)
    if text is None:
        raise Rejected("wrong_type")
    return text


def offset(zone, shown):
    """Milliseconds that the clocks of a zone are ahead of UTC when they show what those of UTC show at `shown`."""
    if zone == "UTC":
        return 0
    if zone in NAMED_ZONES:
        clock = dt.datetime(1970, 1, 1, tzinfo=zoneinfo.ZoneInfo(zone)) + dt.timedelta(milliseconds=shown)
        return clock.utcoffset() // dt.timedelta(milliseconds=1)
    sign = -1 if zone[0] == "-" else 1
    digits = zone[1:].replace(":", "")
    return sign * (int(digits[:2]) * 60 + int(digits[2:])) * 60_000


FORMS = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)[Tt ](\d\d):?(\d\d):?(\d\d)[.,](\d{3})\d*\s*(Z\[UTC\]|Z|z|UTC|\+0000|\+00|-00:00)?"
)


def parse(text):
    """Milliseconds, and whether a zone was named: the forms that `time_text` writes."""
    *parts, zone = FORMS.fullmatch(text).groups()
    year, month, day, hours, minutes, seconds, milliseconds = map(int, parts)
    days = (dt.date(year, month, day) - dt.date(1970, 1, 1)).days
    return days * DAY + ((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds, zone is not None


def moment(cell, settings):
    """Milliseconds of a cell, which is ("at", ms, zoned), a date, a number or text."""
    if cell is None:
        raise Rejected("missing_field")
    unit = UNITS[settings.get("timestamp_unit", "ms")]
    zone = settings.get("timezone", "")
    if isinstance(cell, tuple):
        return cell[1] - (0 if cell[2] or not zone else offset(zone, cell[1]))
    if isinstance(cell, dt.date):
        midnight = (cell - dt.date(1970, 1, 1)).days * DAY
        return midnight - offset(zone, midnight)
    if isinstance(cell, int):
        return cell * unit // 1_000_000
    if isinstance(cell, decimal.Decimal):
        if cell == cell.to_integral_value():
            return int(cell) * unit // 1_000_000
        cell = float(cell)
    if isinstance(cell, float):
        scaled = cell * (unit / 1e6)
        return int(math.floor(abs(scaled) + 0.5) * (1 if scaled >= 0 else -1))
    if cell.lstrip("-").isdigit():
        return int(cell) * unit // 1_000_000
    if cell == "never":
        raise Rejected("wrong_type")
    at, named = parse(cell)
    if named:
        return at
    if not zone:
        raise Rejected("wrong_type")
    return at - offset(zone, at)


def number(cell):
    return None if cell is None else float(cell)


def features(cell):
    return [optional(element) for element in cell or [] if element is not None]


def event(row, settings):
    made = {
        "user": identifier(row.get("user_id")),
        "item": identifier(row.get("item_id")),
        "timestamp": moment(row.get("timestamp"), settings),
    }
    kind = row.get("event_type")
    made["kind"] = str(kind).lower() if isinstance(kind, bool) else optional(kind) or ""
    made["session"] = optional(row.get("session_id"))
    made["value"] = number(row.get("value"))
    made["features"] = features(row.get("features"))
    for name in ("user", "item"):
        if not made[name]:
            raise Rejected("empty_id")
        check_length(made[name])
    for text in [made["kind"], made["session"] or "", *made["features"]]:
        check_length(text)
    if not FIRST <= made["timestamp"] < END:
        raise Rejected("timestamp_out_of_range")
    if made["value"] is not None and not math.isfinite(made["value"]):
        raise Rejected("value_not_finite")
    return made


def check_length(text):
    if len(text.encode()) > MAX_ID:
        raise Rejected("id_too_long")


# ---- a case ----


def cells(column):
    """What pyarrow reads of a column, in Python; times in milliseconds."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    of = column.type
    if pa.types.is_timestamp(of):
        counts = column.cast(pa.int64()).to_pylist()
        return [None if x is None else ("at", x * UNITS[of.unit] // 1_000_000, of.tz is not None) for x in counts]
    if pa.types.is_dictionary(of):
        column = column.dictionary_decode()
    if pa.types.is_float16(of):
        return [None if x is None else float(x) for x in column.to_pylist()]
    return column.to_pylist()


def write_case(folder, draw):
    n = draw.choice([0, 1, 7, 40, 40, 120])
    settings = {}
    columns = {
        "user_id": id_column(draw, n),
        "item_id": id_column(draw, n),
        "timestamp": time_column(draw, n, settings),
    }
    if draw.random() < 0.7:
        columns["event_type"] = kind_column(draw, n)
    for name, column in (("session_id", id_column), ("value", value_column), ("features", features_column)):
        if draw.random() < 0.4:
            columns[name] = column(draw, n)
    int96 = settings.pop("_int96", False)

    # Some are columns of their own, some lie in structs, whose nulls are theirs too.
    names = {name: name for name in columns}
    inner = [name for name in columns if draw.random() < 0.25] if draw.random() < 0.25 and n > 0 and not int96 else []
    roots = {}
    if inner:
        missing = pa.array([draw.random() < 0.05 for _ in range(n)])
        after = pa.StructArray.from_arrays([columns[name] for name in inner], names=inner, mask=missing)
        roots["payload"] = pa.StructArray.from_arrays([after, pa.array(["c"] * n)], names=["after", "op"])
        names.update({name: f"payload.after.{name}" for name in inner})
    for name in columns:
        if name in inner:
            continue
        if draw.random() < 0.1:
            names[name] = draw.choice([f"my {name}", f"a.{name}", f"ünï.{name}"])
        roots[names[name]] = columns[name]
    partition = {}
    if draw.random() < 0.1 and "event_type" not in columns:
        partition["event_type"] = draw.choice(["click", "add to cart", None])
    roots.update({name: column for name, column in spare_columns(draw, n).items() if name not in roots})
    order = list(roots)
    draw.shuffle(order)
    table = pa.table({name: roots[name] for name in order})

    way = dict(
        compression=draw.choice(["none", "snappy", "gzip", "zstd", "lz4"]),
        data_page_version=draw.choice(["1.0", "2.0"]),
        use_dictionary=draw.choice([True, False]),
        write_statistics=draw.choice([True, False]),
        row_group_size=draw.choice([None, 7, 50]),
        data_page_size=draw.choice([None, 64, 1024]),
        store_schema=draw.choice([True, False]),
        use_compliant_nested_type=draw.choice([True, False]),
        write_page_index=draw.choice([True, False]),
        write_page_checksum=draw.choice([True, False]),
        use_deprecated_int96_timestamps=int96,
        version=draw.choice(["2.4", "2.6"]),
    )
    if not way["use_dictionary"] and draw.random() < 0.5:
        encodings = {}
        for field in table.schema:
            if pa.types.is_string(field.type) or pa.types.is_binary(field.type):
                encodings[field.name] = draw.choice(["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"])
            elif pa.types.is_int64(field.type) or pa.types.is_int32(field.type):
                encodings[field.name] = draw.choice(["DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "PLAIN"])
            elif pa.types.is_float64(field.type) or pa.types.is_float32(field.type):
                encodings[field.name] = draw.choice(["BYTE_STREAM_SPLIT", "PLAIN"])
        way["column_encoding"] = {name: of for name, of in encodings.items() if "." not in name} or None
    escaped = {" ": "%20"}
    below = "".join(
        f"{name}={'__HIVE_DEFAULT_PARTITION__' if value is None else ''.join(escaped.get(c, c) for c in value)}/"
        for name, value in partition.items()
    )
    name = draw.choice(["log.parquet", "part-0.snappy.parquet", "000000_0", "x.parq", "deep/er/x.PARQUET"])
    path = os.path.join(folder, "log", below + name)
    os.makedirs(os.path.dirname(path))
    try:
        pq.write_table(table, path, **way)
        there = pq.ParquetFile(path).read()
    except (pa.ArrowNotImplementedError, OSError):
        # Not every way suits every type; nor can pyarrow read back all that it writes.
        for option in ("row_group_size", "data_page_size", "column_encoding"):
            way.pop(option, None)
        pq.write_table(table, path, **{**way, "use_dictionary": False, "store_schema": True})
        there = pq.ParquetFile(path).read()
    # Beside it, what is none.
    if draw.random() < 0.3:
        hidden = os.path.join(folder, "log", draw.choice(["_temporary", ".staging", "_delta_log"]))
        os.makedirs(hidden)
        with open(os.path.join(hidden, "part-0.parquet"), "wb") as file:
            file.write(open(path, "rb").read())

    read = {}
    for field, name in names.items():
        column = there.column(name) if field not in inner else None
        if column is None:
            outer = there.column("payload").combine_chunks()
            after = outer.field("after")
            valid = after.is_valid().to_pylist()
            read[field] = [cell if ok else None for cell, ok in zip(cells(after.field(field)), valid)]
        else:
            read[field] = cells(column)
    rows = []
    for k in range(there.num_rows):
        row = {field: column[k] for field, column in read.items()}
        row.update(partition)
        try:
            rows.append(event(row, settings))
        except Rejected as reason:
            rows.append({"rejected": str(reason)})
    settings["fields"] = {field: name for field, name in names.items() if field != name}
    with open(os.path.join(folder, "case.json"), "w") as file:
        json.dump({"settings": settings, "rows": rows, "way": {**way, "types": str(table.schema)}}, file)


def main():
    folder, seed, cases = sys.argv[1], sys.argv[2], int(sys.argv[3])
    for case in range(cases):
        inside = os.path.join(folder, f"{case:06}")
        os.makedirs(inside)
        write_case(inside, random.Random(f"{seed} {case}"))


main()
