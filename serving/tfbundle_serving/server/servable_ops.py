"""Operations that TensorFlow itself lacks: which package brings them, imported when a model first needs one.

tensorflow_model_server is linked with the operations of TF Text and of TF Decision Forests; in Python they come with
packages, which register them when they are imported. They are looked for only after a load has failed for want of an
operation, so nobody else pays for their import.

Source: tensorflow_serving/model_servers/BUILD (SUPPORTED_TENSORFLOW_OPS).
"""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import dataclass
from importlib import import_module

from tfbundle_serving.apis.errors import NotFound

log = logging.getLogger(__name__)

_MISSING = re.compile(r"Op type not registered '([^']+)'")
#: Two versions that load at once must not import one package twice at once.
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Packages:
    """Who brings a family of operations.

    Attributes:
        operations: What their names look like.
        modules: What is imported for them, the first that is there and works.
        install: What to install where none is.
    """

    operations: re.Pattern[str]
    modules: tuple[str, ...]
    install: str


_FAMILIES = (
    _Packages(
        # Those from before TF Text had a name space of its own stand here by name.
        re.compile(
            r"TFText>.*|CaseFoldUTF8|ConstrainedSequence|FastBertNormalize|FastWordpiece.*|FindSourceOffsets|"
            r"MaxSpanningTree|NormalizeUTF8.*|PhraseTokenize|RegexSplitWithOffsets|RougeL|SentenceFragments.*|"
            r"Sentencepiece.*|SplitMerge.*|TokenizerFromLogits|UnicodeScriptTokenize.*|WhitespaceTokenize.*|"
            r"WordpieceTokenize.*"
        ),
        ("tensorflow_text",),
        "tensorflow-text",
    ),
    # `ydf` exports with the operations of ydf-tf, which are those of TensorFlow Decision Forests.
    _Packages(
        re.compile(r"SimpleML.*"),
        ("ydf_tf.op", "tensorflow_decision_forests"),
        "ydf-tf",
    ),
)


def missing_operation(message: str) -> str:
    """Give the name of the operation for want of which TensorFlow refused a graph; "" where it said something else."""
    found = _MISSING.search(message)
    return found[1] if found else ""


def register_operation(operation: str) -> None:
    """Import the package that brings an operation.

    Raises:
        NotFound: No package that we know of brings it, or none that does is installed and fits this TensorFlow; one
            line, which names the package.
    """
    family = next((each for each in _FAMILIES if each.operations.fullmatch(operation)), None)
    if family is None:
        raise NotFound(f"Op type not registered '{operation}': neither TensorFlow nor a package that we know has it")
    troubles = []
    with _lock:
        for module in family.modules:
            try:
                import_module(module)
            except ModuleNotFoundError as error:
                if module.startswith(error.name or ""):
                    continue  # it is not installed
                troubles.append(f"{module.partition('.')[0]} needs {error.name}, which is not installed")
                continue
            except Exception as error:  # a library built for another TensorFlow fails in ways of its own
                log.warning("%s cannot be imported: %s", module, error)
                troubles.append(f"{module.partition('.')[0]} is installed but does not work: {_first_line(error)}")
                continue
            log.info("imported %s for the operation %s", module.partition(".")[0], operation)
            return
    why = "; ".join(troubles) or "it is not installed"
    raise NotFound(
        f"Op type not registered '{operation}': the model needs the package {family.install} in the version that fits "
        f"this TensorFlow; {why}"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
