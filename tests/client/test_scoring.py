"""tfbundle predict --input FILE --output FILE: tables of any size, in batches, resumable."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.servers import RunningServer
from tfbundle.cli import main
from tfbundle_client import FailedPrecondition, InvalidArgument
from tfbundle_client.scoring.partial_file import PartialFile
from tfbundle_client.scoring.progress import open_progress
from tfbundle_client.scoring.readers import count_rows, read_batches
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.signatures import Signature, TensorSpec

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ENDINGS = [".npy", ".npz", ".csv", ".parquet", ".jsonl"]
ROWS = 1000
_X = np.arange(ROWS, dtype=np.float32) / 4
Captured = pytest.CaptureFixture[str]


def _run(capsys: Captured, *arguments: object) -> tuple[int, str, str]:
    code = main(["predict", *map(str, arguments)])
    done = capsys.readouterr()
    return code, done.out, done.err


def _write(path: Path, columns: dict[str, NDArray[Any]]) -> Path:
    if path.suffix == ".npy":
        np.save(path, next(iter(columns.values())))
    elif path.suffix == ".npz":
        np.savez_compressed(path, **columns)  # type: ignore[arg-type]
    elif path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path, row_group_size=300)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    else:
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        path.write_text("".join(f"{json.dumps(dict(zip(columns, row, strict=True)))}\n" for row in rows))
    return path


def _read(path: Path, name: str = "y") -> NDArray[Any]:
    if path.suffix == ".npy":
        return np.asarray(np.load(path))
    if path.suffix == ".npz":
        return np.asarray(np.load(path)[name])
    if path.suffix == ".parquet":
        return np.array(pq.read_table(path)[name].to_pylist(), np.float32)
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return np.array([row[name] for row in csv.DictReader(file)], np.float32)
    return np.array([json.loads(line) for line in path.read_text().splitlines()], np.float32)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_kind_of_file(capsys: Captured, url: str, tmp_path: Path, ending: str) -> None:
    """Each kind is read and written; the file is whole and alone when the command ends."""
    table = _write(tmp_path / f"in{ending}", {"x": _X})
    for output in (tmp_path / f"out{ending}", tmp_path / "out.npy"):
        code, out, err = _run(capsys, url, "half_plus_two", "--input", table, "--output", output, "--batch-size", "300")
        assert (code, out) == (0, "")
        assert f"wrote 1,000 rows of half_plus_two version 123 to {output}" in err
        np.testing.assert_array_equal(_read(output), _X / 2 + 2)
    assert not list(tmp_path.glob("*.partial"))


def test_a_large_array_is_scored_without_being_asked(capsys: Captured, url: str, tmp_path: Path) -> None:
    """More rows than a batch are scored; fewer are one request, as ever."""
    for rows, said in ((513, "wrote 513 rows"), (512, "wrote y to ")):
        table = _write(tmp_path / "in.npy", {"x": _X[:rows]})
        code, _, err = _run(capsys, url, "half_plus_two", "--input", table, "--output", tmp_path / "out.npz")
        assert (code, said in err) == (0, True)
        np.testing.assert_array_equal(_read(tmp_path / "out.npz"), _X[:rows] / 2 + 2)


@pytest.mark.parametrize("ending", ENDINGS[1:])
def test_several_inputs_and_outputs(capsys: Captured, server: RunningServer, tmp_path: Path, ending: str) -> None:
    """Outputs with several values in a row become lists or columns of their own."""
    a, b = np.random.default_rng(0).integers(0, 9, (2, 20, 3)).astype(np.float32)
    table = _write(tmp_path / "in.npz", {"a": a, "b": b})
    output = tmp_path / f"out{ending}"
    code, out, _ = _run(
        capsys, server.grpc_url, "two_inputs", "--input", table, "--output", output, "--batch-size", "7", "--json"
    )
    assert (code, json.loads(out)["rows"], json.loads(out)["version"]) == (0, 20, 1)
    if ending == ".csv":
        with output.open(newline="") as file:
            found = [[float(row[f"sum_{place}"]) for place in range(3)] for row in csv.DictReader(file)]
    elif ending == ".jsonl":
        found = [json.loads(line)["sum"] for line in output.read_text().splitlines()]
    else:
        found = _read(output, "sum").tolist()
    assert found == (a + b).tolist()


def test_strings(capsys: Captured, server: RunningServer, tmp_path: Path) -> None:
    """Texts come from and go to the files that hold texts; a .npy says that it cannot."""
    (tmp_path / "in.csv").write_text('text,note\n"a,b",1\nü,2\n')
    arguments = [server.grpc_url, "strings", "--input", tmp_path / "in.csv", "--outputs", "upper"]
    assert _run(capsys, *arguments, "--output", tmp_path / "out.jsonl")[0] == 0
    assert (tmp_path / "out.jsonl").read_text().splitlines() == ['"A,B"', '"ü"']
    assert _run(capsys, *arguments, "--output", tmp_path / "out.csv")[0] == 0
    assert (tmp_path / "out.csv").read_text() == 'upper\n"A,B"\nü\n'
    assert _run(capsys, *arguments, "--output", tmp_path / "out.parquet")[0] == 0
    code, _, err = _run(capsys, *arguments, "--output", tmp_path / "out.npy")
    assert (code, "is a string, which .csv, .jsonl and .parquet can hold" in err) == (1, True)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_resume(capsys: Captured, server: RunningServer, tmp_path: Path, ending: str) -> None:
    """A run that failed keeps its rows; --resume does the rest, once each, and refuses another input."""
    good = _write(tmp_path / "good.jsonl", {"x": _X}).read_text().splitlines(keepends=True)
    table, output = tmp_path / "in.jsonl", tmp_path / f"out{ending}"
    table.write_text("".join([*good[:400], '{"x": "no"}\n', *good[401:]]))
    arguments = [server.grpc_url, "half_plus_two", "--input", table, "--output", output, "--batch-size", "100"]
    code, _, err = _run(capsys, *arguments)
    assert (code, output.exists()) == (1, False)
    assert f"400 rows are kept in {output}.partial: --resume goes on there" in err
    assert "rows 400 to 499" in err
    stat = table.stat()
    table.write_text("".join(good))
    code, _, err = _run(capsys, *arguments, "--resume")
    assert (code, "cannot be gone on with: its input is" in err) == (1, True)
    # What was mended is the same file to the command: its identity is restored.
    progress = tmp_path / f"out{ending}.partial/progress.json"
    state = json.loads(progress.read_text())
    assert (state["rows"], state["identity"]["input"][1:]) == (400, [stat.st_size, stat.st_mtime_ns])
    state["identity"]["input"][1:] = [table.stat().st_size, table.stat().st_mtime_ns]
    progress.write_text(json.dumps(state))
    for file in progress.parent.iterdir():
        if file != progress:
            with file.open("ab") as rest:
                rest.write(b"written after the last note")
    code, out, _ = _run(capsys, *arguments, "--resume", "--json")
    assert (code, json.loads(out)["resumed_at"], json.loads(out)["rows"]) == (0, 400, ROWS)
    np.testing.assert_array_equal(_read(output), _X / 2 + 2)


def test_what_is_whole_is_not_scored_again(
    capsys: Captured, server: RunningServer, tmp_path: Path, free_port: int
) -> None:
    """--resume after the end does nothing and says so, without the server; with a newer input it scores."""
    table, output = _write(tmp_path / "in.npy", {"x": _X}), tmp_path / "out.npy"
    arguments = ["half_plus_two", "--input", table, "--output", output, "--resume"]
    assert _run(capsys, server.grpc_url, *arguments)[0] == 0
    before = output.stat()
    code, out, err = _run(capsys, f"grpc://127.0.0.1:{free_port}", *arguments, "--json")
    assert (code, err) == (0, f"{output} is whole already, nothing was done; run without --resume to score anew\n")
    assert (json.loads(out)["rows"], json.loads(out)["version"]) == (ROWS, None)
    # Not the whole of it: to see that the file is whole is to read it, and that moves the time of the last access.
    after = output.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    os.utime(table, ns=(before.st_mtime_ns + 1, before.st_mtime_ns + 1))
    assert "wrote 1,000 rows" in _run(capsys, server.grpc_url, *arguments)[2]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--input", "in.csv"], 2, "is scored into a file: --output"),
        (["--input", "in.csv", "--output", "out.json"], 2, "is scored into a file: --output"),
        (["--input", "[1]", "--resume"], 2, "a file is scored in batches: give one --input"),
        (["--input", "in.csv", "--output", "out.npy", "--batch-size", "0"], 2, "--batch-size"),
        (["--input", "none.csv", "--output", "out.npy"], 1, "No such file or directory: none.csv"),
        (["--input", "empty.csv", "--output", "out.npy"], 1, "empty.csv is not a .csv file that can be scored"),
        (["--input", "head.csv", "--output", "out.npy"], 1, "head.csv has no rows"),
        (["--input", "ragged.csv", "--output", "out.npy"], 1, "row 1 has 2 values, there are 1 columns"),
        (["--input", "other.csv", "--output", "out.npy"], 1, "it has no column 'x': the input is x: float32 (?,)"),
        (["--input", "in.csv", "--output", "missing/out.npy", "--version", "9"], 1, "Servable not found"),
    ],
)
def test_scoring_says_what_is_wrong(
    capsys: Captured,
    server: RunningServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    """Errors are one line; nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    for name, text in {"in": "x\n1\n", "empty": "", "head": "x\n", "ragged": "x\n1\n1,2\n", "other": "z\n1\n"}.items():
        (tmp_path / f"{name}.csv").write_text(text)
    got, out, err = _run(capsys, server.grpc_url, "half_plus_two", *arguments)
    assert (got, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def _signature(**inputs: tuple[dtypes.DType, tuple[int | None, ...]]) -> Signature:
    return Signature({name: TensorSpec(*spec) for name, spec in inputs.items()}, {})


_MATRIX = _signature(x=(dtypes.FLOAT, (None, 2)))


def _all(path: Path, signature: Signature, **options: int) -> dict[str, list[Any]]:
    batches = list(read_batches(path, signature, **{"batch_size": 3, **options}))
    return {name: np.concatenate([batch[name] for batch in batches]).tolist() for name in batches[0]}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("first_row", [0, 1, 3, 700, 999])
def test_reading_begins_anywhere(tmp_path: Path, ending: str, first_row: int) -> None:
    """A reader starts at any row, as one that resumes does."""
    table = _write(tmp_path / f"in{ending}", {"x": _X})
    signature = _signature(x=(dtypes.FLOAT, (None,)))
    assert _all(table, signature, first_row=first_row)["x"] == _X[first_row:].tolist()
    assert list(read_batches(table, signature, batch_size=3, first_row=ROWS)) == []
    assert count_rows(table) == (ROWS if ending in (".npy", ".npz", ".parquet") else None)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_numeric_columns_are_one_matrix(tmp_path: Path, ending: str) -> None:
    """One input of two dimensions takes all columns of numbers in their order; texts are left out."""
    names = np.array([f"n{place}" for place in range(5)])
    a = np.arange(5, dtype=np.float32)
    table = _write(tmp_path / f"in{ending}", {"id": names, "b": a, "a": -a})
    assert _all(table, _MATRIX) == {"x": np.stack([a, -a], 1).tolist()}
    with pytest.raises(InvalidArgument, match=r"it has 2 columns of numbers, but the input is x: float32 \(\?, 3\)"):
        _all(table, _signature(x=(dtypes.FLOAT, (None, 3))))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((None, 2), "it has 1 columns of numbers, .*; line 4, column 'b' has 'oops', which is no number"),
        ((None,), "line 4, column 'b', which is to be float32: could not convert .* 'oops'"),
    ],
)
def test_a_text_among_numbers_is_named(tmp_path: Path, shape: tuple[int | None, ...], message: str) -> None:
    """One field that is no number is told by its line and column, with blank lines counted, in any batch."""
    table = tmp_path / "in.csv"
    table.write_text("a,b\n\n1,2\n3,oops\n5,6\n")
    name = "x" if len(shape) == 2 else "b"
    for size in (1, 3) if len(shape) == 1 else (3,):
        with pytest.raises(InvalidArgument, match=message):
            _all(table, _signature(**{name: (dtypes.FLOAT, shape)}), batch_size=size)


def test_csv_values(tmp_path: Path) -> None:
    """Columns are read as the inputs they go to: numbers, empty fields, truth values, texts, columns of a matrix."""
    table = tmp_path / "in.csv"
    table.write_text("f,i,b,s,c\n1.5,-3,true,01,2\n,4,0,,3\n")
    signature = _signature(
        f=(dtypes.FLOAT, (None,)), i=(dtypes.INT8, (None,)), b=(dtypes.BOOL, (None,)), s=(dtypes.STRING, (None,)),
        c=(dtypes.DOUBLE, (None, 1)),
    )  # fmt: skip
    found = _all(table, signature)
    assert np.isnan(found["f"].pop())
    assert found == {"f": [1.5], "i": [-3, 4], "b": [True, False], "s": [b"01", b""], "c": [[2.0], [3.0]]}
    for text, message in (("1,300,1,s,2", "'i', which is to be int8"), ("1,,1,s,2", "'i'"), ("1,1,yes,s,2", "'yes'")):
        table.write_text(f"f,i,b,s,c\n{text}\n")
        with pytest.raises(InvalidArgument, match=message):
            _all(table, signature)


def test_parquet_lists_and_gaps(tmp_path: Path) -> None:
    """A column of lists of one length is a matrix; a missing number is NaN where there is one."""
    table = tmp_path / "in.parquet"
    pq.write_table(pa.table({"x": [[1.0, 2.0], [3.0, 4.0]], "y": pa.array([1.0, None])}), table)
    assert _all(table, _MATRIX) == {"x": [[1.0, 2.0], [3.0, 4.0]]}
    assert np.isnan(_all(table, _signature(y=(dtypes.DOUBLE, (None,))))["y"][1])
    pq.write_table(pa.table({"x": [[1.0, 2.0], [3.0]], "n": pa.array([1, None])}), table)
    for signature, message in ((_MATRIX, "differ in length"), (_signature(n=(dtypes.INT64, (None,))), "empty fields")):
        with pytest.raises(InvalidArgument, match=message):
            _all(table, signature)


def test_damaged_files(tmp_path: Path) -> None:
    """What is no such file, ends early or holds Python objects names the file."""
    signature = _signature(x=(dtypes.FLOAT, (None,)))
    whole = io.BytesIO()
    np.save(whole, _X)
    objects = io.BytesIO()
    np.save(objects, np.array([{}], object), allow_pickle=True)
    scalar = io.BytesIO()
    np.save(scalar, np.float32(1))
    for name, content in {
        "short.npy": whole.getvalue()[:-9],
        "objects.npy": objects.getvalue(),
        "scalar.npy": scalar.getvalue(),
        "nonsense.npy": b"nonsense",
        "nonsense.npz": b"nonsense",
        "nonsense.parquet": b"nonsense",
        "nonsense.jsonl": b"{",
        "nonsense.csv": b"x\n\xff\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidArgument, match=name):
            list(read_batches(tmp_path / name, signature, batch_size=100))
    with zipfile.ZipFile(tmp_path / "uneven.npz", "w") as archive:
        archive.writestr("x.npy", whole.getvalue())
        archive.writestr("z.npy", objects.getvalue())
    with pytest.raises(InvalidArgument, match=r"uneven\.npz"):
        list(read_batches(tmp_path / "uneven.npz", signature, batch_size=100))


class _Unreadable:
    """An output whose values cannot be had, as if Ctrl-C came in between."""

    dtype, ndim = np.dtype(np.float64), 1

    def __init__(self, rows: int) -> None:
        self.shape = (rows,)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt


def test_half_a_batch_is_not_kept(tmp_path: Path) -> None:
    """Rows of which one output was written and another was not are no rows: who resumes gets what was kept before."""

    def batch(first: int) -> dict[str, Any]:
        values = np.arange(first, first + 3.0)
        return {"a": values, "b": -values}

    partial = PartialFile(tmp_path / "out.npz", {}, resume=False)
    partial.append(batch(0), 3)
    partial.keep()
    broken = {**batch(3), "b": _Unreadable(3)}
    with pytest.raises(KeyboardInterrupt):
        partial.append(broken, 3)
    partial.keep()
    assert partial.kept_rows == 3
    partial.close()
    again = PartialFile(tmp_path / "out.npz", {}, resume=True)
    assert again.rows == 3
    again.append(batch(3), 3)
    again.finish()
    with np.load(tmp_path / "out.npz") as whole:
        assert whole["a"].tolist() == [0, 1, 2, 3, 4, 5]
        assert whole["b"].tolist() == [0, -1, -2, -3, -4, -5]


def test_outputs_that_are_no_table(tmp_path: Path) -> None:
    """An output without a row for each row, and rows that change their shape, are refused; another model is, too."""
    partial = PartialFile(tmp_path / "out.npy", {"model": "m"}, resume=False)
    with pytest.raises(InvalidArgument, match="not an answer for each"):
        partial.append({"loss": np.zeros(())}, 3)
    with pytest.raises(InvalidArgument, match=r"holds one output, there are a, b: use \.npz"):
        partial.append({"a": np.zeros(3), "b": np.zeros(3)}, 3)
    partial.append({"a": np.zeros((3, 2))}, 3)
    with pytest.raises(InvalidArgument, match="after rows of shape"):
        partial.append({"a": np.zeros((3, 4))}, 3)
    partial.keep()
    partial.close()
    with pytest.raises(FailedPrecondition, match="its model is m, now it is other"):
        PartialFile(tmp_path / "out.npy", {"model": "other"}, resume=True)
    with pytest.raises(InvalidArgument, match="written to"):
        PartialFile(tmp_path / "out.txt", {}, resume=False)


def test_progress_in_a_log(capsys: Captured) -> None:
    """Where there is no terminal, a line now and then tells rows, rate and what is left."""
    times = iter([0.0, 5.0, 10.0, 12.0, 30.0])
    with open_progress("out.npy", 4000, 500, lambda: next(times)) as progress:
        for rows in (1000, 1500, 1600, 3500):
            progress.reach(rows)
    assert capsys.readouterr().err.splitlines() == [
        "out.npy: 1,500 of 4,000 rows, 100 rows/s, 25 s left",
        "out.npy: 3,500 of 4,000 rows, 100 rows/s, 5 s left",
    ]


def test_progress_on_a_terminal(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets a bar, with the name as it is."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with open_progress("out[1].npy", 10) as progress:
        progress.reach(10)
    assert "out[1].npy" in capsys.readouterr().err
