"""A question that has no answer."""


class Problem(Exception):
    """An HTTP status, and why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
