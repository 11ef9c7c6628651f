"""The question whether everything on disk is as it was signed."""

from syncd.ask.question import Answers, AskedState, Question
from syncd.feed.garbage import KEPT_VERSIONS
from syncd.verify.document import proof_document
from syncd.verify.state import prove_state


class VerifyQuestion(Question):
    """``root``: the trust root that was obtained out of band, as text; None: the feed's own.

    ``deep``: replay the kept history. ``kept``: as in `syncd.verify.state.prove_state`.
    """

    root: str | None = None
    deep: bool = False
    kept: int = KEPT_VERSIONS

    def answers(self, state: AskedState) -> Answers:
        """See `Question`."""
        root = self.root.encode() if self.root is not None else None

        def report(done: int, total: int) -> None:
            state.progress("files", done, total)

        proof = prove_state(state.folder, root, state.now, report, deep=self.deep, kept=self.kept)
        yield {"document": proof_document(proof)}
        return proof.exit_code
