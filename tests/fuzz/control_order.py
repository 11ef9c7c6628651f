"""Orders at the control socket, and the arguments of the questions among them."""

from syncd.ask.questions import QUESTIONS, question
from syncd.service.control import parse_order


def one(content: bytes) -> None:
    """Parse an order, and the question that it asks."""
    order = parse_order(content)
    if order.do in QUESTIONS:
        question(order.do, order.arguments)
