"""The question whether everything on disk is as it was signed."""

from syncd.ask.question import Answers, AskedState, Question
from syncd.verify.document import proof_document
from syncd.verify.state import prove_state


class VerifyQuestion(Question):
    """``root``: the trust root that was obtained out of band, as text; None: the feed's own."""

    root: str | None = None

    def answers(self, state: AskedState) -> Answers:
        """See `Question`."""
        root = self.root.encode() if self.root is not None else None
        proof = prove_state(state.folder, root, state.now, lambda done, total: state.progress("files", done, total))
        yield {"document": proof_document(proof)}
        return proof.exit_code
