"""Token ids of labels: none may begin with another's."""

from collections.abc import Sequence

from comity.errors import ComityError


def check_label_ids(
    labels: Sequence[str],
    all_ids: Sequence[Sequence[int]],
    empty: Sequence[int],
    unknown: int | None,
) -> None:
    """Raises `ComityError` for labels whose probabilities cannot be distinguished.

    Those without ids of their own (`empty`: the ids of an empty answer), with letters that the
    tokenizer does not know (`unknown`), and those whose ids begin with another's.
    """
    for label, ids in zip(labels, all_ids, strict=True):
        if not label.strip() or not ids or ids == empty:
            raise ComityError(f"label {label!r} has no tokens; use letters or words")
        if unknown in ids:
            raise ComityError(
                f"label {label!r} holds letters that the model's tokenizer does not know"
            )
    for i, ids in enumerate(all_ids):
        for j, others in enumerate(all_ids):
            if i < j and ids == others:
                raise ComityError(
                    f"labels {labels[i]!r} and {labels[j]!r} are the same tokens for this "
                    "model; choose others"
                )
            if i != j and len(ids) < len(others) and others[: len(ids)] == ids:
                raise ComityError(
                    f"label {labels[j]!r} begins with the tokens of label {labels[i]!r} for "
                    "this model, so their probabilities overlap; choose others"
                )
