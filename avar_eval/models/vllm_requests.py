"""What vLLM's V2 runner keeps of requests to a steered model: a row of strengths, and which tokens are the prompt."""

from typing import Any

from vllm.v1.worker.gpu.model_states.default import DefaultModelState

from avar_eval.models.request_steering import REQUEST_KEY
from avar_eval.models.vllm_plugin import VllmSteering


class SteeredRequests(DefaultModelState):  # type: ignore[misc]
    """Every worker of an engine sees the same requests in the same order, and so gives them the same rows."""

    model: Any

    def add_request(self, req_index: int, new_req_data: Any) -> None:
        """A new request, or one that was preempted and comes back with what it had generated."""
        asked = (new_req_data.sampling_params.extra_args or {}).get(REQUEST_KEY)
        steering = None if asked is None else VllmSteering.model_validate(asked)  # as `vllm_admission` leaves it
        row = self.model.avar_rows.begin(new_req_data.req_id, steering)
        with self.model.request(len(new_req_data.prompt_token_ids), row):
            super().add_request(req_index, new_req_data)

    def remove_request(self, req_id: str) -> None:
        """A request is finished, aborted or preempted."""
        self.model.avar_rows.end(req_id)
        super().remove_request(req_id)

    def prepare_inputs(self, input_batch: Any, req_states: Any) -> dict[str, Any]:
        """The step's positions. Requests come after the step that is about to run: a row is free from then on."""
        inputs: dict[str, Any] = super().prepare_inputs(input_batch, req_states)
        computed = input_batch.num_computed_tokens_np + input_batch.num_scheduled_tokens
        for request, done in zip(input_batch.req_ids, computed >= input_batch.prefill_len_np, strict=False):
            if done:
                self.model.avar_rows.end(request)
        return inputs
