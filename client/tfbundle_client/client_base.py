"""What a client can be asked, once for both clients: arguments are checked here and become a flow.

`Client` drives the flows through a blocking transport, `AsyncClient` through an asynchronous one; a method there is the
method of the same name here, with `blocking` or `awaited` around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.apis.model_metadata import ModelMetadata
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import VersionStatus
from tfbundle_serving.apis.reload_config import ReloadReply
from tfbundle_serving.apis.signatures import CLASSIFY_METHOD, REGRESS_METHOD

from .batches.flow import Stream, StreamSettings, open_stream
from .calls import flows, flows_examples, flows_server
from .calls.example_inputs import Example, as_input
from .calls.flows import Flow, Tries
from .calls.inferences import Classifications, Regressions
from .calls.input_fitting import Casting
from .calls.prediction import Prediction
from .calls.retry import Retrying
from .client_setup import UNSET, ClientSetup, Timeout

_ONCE = Retrying(None)


def _spec(model: str, version: int | None = None, label: str | None = None, signature: str = "") -> ModelSpec:
    """Say what is asked for; that a list of inputs is no name would show in other words over each transport."""
    if not isinstance(model, str):
        raise InvalidArgument(
            f"a model's name (a str) comes first, got {type(model).__name__}: client.predict('digits', ...)", attempts=0
        )
    return ModelSpec(model, version, label, signature)


class ClientBase(ClientSetup):
    """Calls models on one server or several with the same models, over gRPC or REST.

    A client connects when it is first used. It may be shared by threads, and used after a fork. Make one and keep it.
    """

    def _ask_predict(
        self,
        model: str,
        inputs: Any,
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "",
        outputs: str | Sequence[str] = (),
        casting: Casting = "safe",
        timeout: Timeout = UNSET,
    ) -> Flow[Prediction]:
        """Run a signature.

        Args:
            model: Model name.
            inputs: {input name: array}, or one array for a signature with one input. Lists, numbers and pandas
                DataFrames are taken as well; see `input_fitting` for what is converted to what.
            version: A version; by default the highest that is AVAILABLE.
            label: A version label, such as "canary"; not together with a version.
            signature: Signature name; by default serving_default.
            outputs: Names of the wanted outputs; by default all.
            casting: "same_kind" also casts arrays where values are rounded (float64 to float32).
            timeout: Seconds for the whole call; None means no limit.

        Raises:
            SignatureMismatch: The inputs do not fit, or there is no such signature or output; nothing was sent.
            NotFound: There is no such model or version.
            InvalidArgument: There is no such label, or the model refuses the values.
            Unimplemented: The dtype does not travel over this transport.
            ConnectionFailed: Nothing answers at the address.
            DeadlineExceeded: No answer in time.
            ApiError: Another failure, by its status.
        """
        question = flows.Question(
            spec=_spec(model, version, label, signature),
            inputs=inputs,
            outputs=tuple(dict.fromkeys([outputs] if isinstance(outputs, str) else outputs)),
            casting=casting,
            deadline=self._deadline(timeout),
        )
        looking = self._looking
        flow = flows.predict(
            question, self._cache, names_version=looking.names_version, version_ttl_s=looking.version_ttl_s
        )
        return self._carry_out(flow, question.spec, question.tries)

    def _ask_predict_batches(
        self,
        model: str,
        data: Any,
        *,
        batch_size: int = 512,
        in_flight: int = 4,
        version: int | None = None,
        label: str | None = None,
        signature: str = "",
        outputs: str | Sequence[str] = (),
        casting: Casting = "safe",
        timeout: Timeout = UNSET,
        first_row: int = 0,
        pin_version: bool = True,
    ) -> Flow[Stream]:
        """Run a signature on any number of rows, in batches, with several on their way at once.

        Rows are answered once each and in order. Memory holds the batches that are in flight, however many rows there
        are. A server that is away for a while is waited for; see `batches_flow`.

        Args:
            model: Model name.
            data: An array (memory-mapped ones are read as they are sent), {input name: array}, a DataFrame, or an
                iterable of rows or of batches (for AsyncClient also an asynchronous one); see `batches`.
            batch_size: Rows in a message at most. A server that joins requests to smaller batches gets them in pieces.
            in_flight: Messages on their way at once.
            version: A version; by default the highest that is AVAILABLE.
            label: A version label, such as "canary"; not together with a version.
            signature: Signature name; by default serving_default.
            outputs: Names of the wanted outputs; by default all.
            casting: "same_kind" also casts arrays where values are rounded (float64 to float32).
            timeout: Seconds for each batch, waiting for a server that is away included; None means no limit.
            first_row: The number of the first row, for a stream that goes on where another ended.
            pin_version: Whether all rows go to the version that is there at the start, even if a newer one comes.

        Returns:
            An iterator over the answers, each a `Prediction` that also has first_row and rows. Closing it early stops
            the work.

        Raises:
            ApiError: A batch has no answer; the message says which rows, and how many before them were answered.
        """
        settings = StreamSettings(
            batch_size=batch_size,
            in_flight=in_flight,
            timeout_s=self._timeout_s if timeout is UNSET else timeout,
            first_row=first_row,
            pin_version=pin_version,
        )

        def ask(inputs: Any, spec: ModelSpec, timeout_s: float | None) -> Flow[Prediction]:
            return self._ask_predict(
                model,
                inputs,
                version=spec.version,
                label=spec.label,
                signature=signature,
                outputs=outputs,
                casting=casting,
                timeout=timeout_s,
            )

        spec = _spec(model, version, label, signature)
        flow = open_stream(data, settings, spec, self._cache, ask, self._retrying.retry)
        return self._carry_out(flow, spec, Tries())

    def _ask_classify(
        self,
        model: str,
        examples: Sequence[Example],
        *,
        context: Example | None = None,
        version: int | None = None,
        label: str | None = None,
        signature: str = "",
        timeout: Timeout = UNSET,
    ) -> Flow[Classifications]:
        """Ask a classify signature for the classes of examples.

        Args:
            model: Model name.
            examples: One {feature: value or list of values} or serialized tf.train.Example each; see `example_inputs`.
            context: Features that all examples share; an example's own feature of the same name counts more.
            version: A version; by default the highest that is AVAILABLE.
            label: A version label, such as "canary"; not together with a version.
            signature: Signature name; by default serving_default.
            timeout: Seconds for the whole call; None means no limit.

        Raises:
            InvalidArgument: An example is none, or the signature is not for this.
            NotFound: There is no such model or version.
            ApiError: Another failure, by its status.
        """
        question = self._examples_question(_spec(model, version, label, signature), examples, context, timeout)
        return self._carry_out(flows_examples.classify(question, self._looking), question.spec, question.tries)

    def _ask_regress(
        self,
        model: str,
        examples: Sequence[Example],
        *,
        context: Example | None = None,
        version: int | None = None,
        label: str | None = None,
        signature: str = "",
        timeout: Timeout = UNSET,
    ) -> Flow[Regressions]:
        """Ask a regress signature for a number for each example.

        Args:
            model: Model name.
            examples: One {feature: value or list of values} or serialized tf.train.Example each; see `example_inputs`.
            context: Features that all examples share; an example's own feature of the same name counts more.
            version: A version; by default the highest that is AVAILABLE.
            label: A version label, such as "canary"; not together with a version.
            signature: Signature name; by default serving_default.
            timeout: Seconds for the whole call; None means no limit.

        Raises:
            InvalidArgument: An example is none, or the signature is not for this.
            NotFound: There is no such model or version.
            ApiError: Another failure, by its status.
        """
        question = self._examples_question(_spec(model, version, label, signature), examples, context, timeout)
        return self._carry_out(flows_examples.regress(question, self._looking), question.spec, question.tries)

    def _ask_multi_inference(
        self,
        model: str,
        examples: Sequence[Example],
        *,
        classify: Sequence[str] = (),
        regress: Sequence[str] = (),
        context: Example | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout: Timeout = UNSET,
    ) -> Flow[dict[str, Classifications | Regressions]]:
        """Run several signatures of one version on the same examples.

        Args:
            model: Model name.
            examples: One {feature: value or list of values} or serialized tf.train.Example each; see `example_inputs`.
            classify: Names of the classify signatures to run.
            regress: Names of the regress signatures to run.
            context: Features that all examples share.
            version: A version; by default the highest that is AVAILABLE.
            label: A version label, such as "canary"; not together with a version.
            timeout: Seconds for the whole call; None means no limit.

        Returns:
            Signature name to result.

        Raises:
            InvalidArgument: An example is none, or a signature is not for this.
            NotFound: There is no such model or version.
            ApiError: Another failure, by its status.
        """
        question = self._examples_question(_spec(model, version, label), examples, context, timeout)
        tasks = [(CLASSIFY_METHOD, name) for name in classify] + [(REGRESS_METHOD, name) for name in regress]
        flow = flows_examples.multi_inference(question, self._looking, tasks)
        return self._carry_out(flow, question.spec, question.tries)

    def _ask_metadata(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: Timeout = UNSET
    ) -> Flow[ModelMetadata]:
        """Ask for the signatures of a version, and which version that is.

        Raises:
            NotFound: There is no such model or version.
            InvalidArgument: There is no such label.
            ApiError: Another failure, by its status.
        """
        spec = _spec(model, version, label)
        return self._carry_out(flows.metadata(spec, self._cache, self._deadline(timeout)), spec, Tries())

    def _ask_status(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: Timeout = UNSET
    ) -> Flow[list[VersionStatus]]:
        """Ask for the state of a model's versions, the highest first; or of the one that is named.

        Versions that are gone stay listed as END.

        Raises:
            NotFound: The server knows no such model or version.
            InvalidArgument: There is no such label.
            ApiError: Another failure, by its status.
        """
        spec = _spec(model, version, label)
        return self._carry_out(flows.status(spec, self._cache, self._deadline(timeout)), spec, Tries())

    def _ask_wait_until_available(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: Timeout = UNSET
    ) -> Flow[VersionStatus]:
        """Wait until a version answers requests: the one given, the one that a label points at, or any.

        A server that is not there yet, or does not know the model or the label yet, is waited for.

        Returns:
            The status of that version; without one given, of the highest that is AVAILABLE.

        Raises:
            DeadlineExceeded: It did not happen in time; the message says what was seen last.
            FailedPrecondition: The version could not be loaded.
            ApiError: Another failure, by its status.
        """
        spec = _spec(model, version, label)
        flow = flows_server.wait_until_available(spec, self._cache, self._deadline(timeout))
        # It asks again and again by itself.
        return self._carry_out(flow, spec, Tries(), _ONCE)

    def _ask_health(self, service: str = "", *, timeout: Timeout = UNSET) -> Flow[bool]:
        """Ask whether the server takes requests, or whether a model has an AVAILABLE version.

        Args:
            service: Model name; "" for the server as a whole.
            timeout: Seconds for the whole call; None means no limit.

        Raises:
            NotFound: There is no such model.
            Unimplemented: The server has no health check; TensorFlow Serving has one over gRPC only, if it is told to.
                Models can be asked for all the same.
            ApiError: Another failure, by its status; a server that is not there is ConnectionFailed.
        """
        flow = flows_server.health(
            service, self._cache, self._deadline(timeout), asks_models=self._transport.name == "gRPC"
        )
        return self._carry_out(flow, _spec(service), Tries())

    def _ask_health_list(self, *, timeout: Timeout = UNSET) -> Flow[dict[str, bool]]:
        """Ask what a server tells apart, and which of it takes requests; over gRPC only.

        The embedded server names "" (the server as a whole) and its models. TensorFlow Serving does not answer this.

        Args:
            timeout: Seconds for the whole call; None means no limit.

        Raises:
            Unimplemented: The server lists nothing, or the client speaks REST.
            ApiError: Another failure, by its status.
        """
        return self._carry_out(flows_server.health_list(self._deadline(timeout)), ModelSpec(""), Tries())

    def _ask_reload_config(
        self,
        config: str | bytes | Mapping[str, Any],
        *,
        metric_names: Sequence[str] = (),
        timeout: Timeout = UNSET,
    ) -> Flow[ReloadReply]:
        """Give the server another list of models; over gRPC only. It answers when the new models are AVAILABLE.

        Args:
            config: What a models.config says, as its text, as nested mappings with the same names
                (`{"model_config_list": {"config": [{"name": "digits", "base_path": "/models/digits",
                "model_platform": "tensorflow"}]}}`), or as a serialized ModelServerConfig.
            metric_names: Counters whose increase during the reload is wanted.
            timeout: Seconds for the whole call; None means no limit.

        Raises:
            InvalidArgument: The config is none, or the server refuses it.
            Unimplemented: The client speaks REST.
            ApiError: Another failure, by its status.
        """
        # Its tables of fields take longer to import than most of the client, and few clients reload.
        from tfbundle_serving.apis.models_config import encode_models_config

        serialized = encode_models_config(config)
        flow = flows_server.reload_config(serialized, tuple(metric_names), self._cache, self._deadline(timeout))
        return self._carry_out(flow, ModelSpec(""), Tries())

    def _examples_question(
        self, spec: ModelSpec, examples: Sequence[Example], context: Example | None, timeout: Timeout
    ) -> flows_examples.ExamplesQuestion:
        return flows_examples.ExamplesQuestion(
            spec=spec, input=as_input(examples, context), deadline=self._deadline(timeout)
        )
