"""What libraries say of a file while it is decoded reaches nobody; what they say otherwise does."""

import logging
import threading
import warnings

import pytest

from stroke_hub.io.quiet import _IGNORE, silence


def test_only_the_decoding_thread_is_silent(
    recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    inside, said = threading.Event(), threading.Event()

    def decode() -> None:
        with silence():
            warnings.warn("a value of the file", stacklevel=1)
            logging.getLogger("pydicom").warning("a value of the file")
            inside.set()
            said.wait(10)

    thread = threading.Thread(target=decode)
    thread.start()
    inside.wait(10)
    warnings.simplefilter("always")
    warnings.warn("of the user", stacklevel=1)
    logging.getLogger("pydicom").warning("of the user")
    said.set()
    thread.join()
    assert _IGNORE not in warnings.filters
    assert [str(one.message) for one in recwarn.list] == ["of the user"]
    assert [record.getMessage() for record in caplog.records] == ["of the user"]
    with silence():
        logging.getLogger("pydicom").warning("of the file")
    logging.getLogger("pydicom").warning("after")
    assert [record.getMessage() for record in caplog.records] == ["of the user", "after"]
