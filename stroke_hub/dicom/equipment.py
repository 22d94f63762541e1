"""Who says it: the package and the model, as DICOM objects name the equipment that made them."""

from typing import TYPE_CHECKING, Any, NamedTuple

from stroke_hub._version import __version__

if TYPE_CHECKING:
    from highdicom.sr import CodedConcept

__all__ = ["MANUFACTURER", "NOTICE", "SCHEME", "Equipment", "make_code"]

MANUFACTURER = "stroke_hub"
SCHEME = "99STROKEHUB"  # of our own codes: private ones begin with 99
NOTICE = "Research software, not a medical device."
LONG_STRING = 64  # characters of a text of the kind LO


class Equipment(NamedTuple):
    """Hold the model that answers.

    name : as it was asked for. revision : its commit, else the SHA-256 of its weights.
    """

    name: str
    revision: str

    @property
    def label(self) -> str:
        """The model's name in the characters that every DICOM text may have."""
        return "".join(sign if " " <= sign <= "~" and sign != "\\" else "?" for sign in self.name)[:LONG_STRING]

    def begin_series(self, number: int, description: str) -> dict[str, Any]:
        """Begin a series of one object: what all classes of highdicom take alike."""
        from highdicom import UID

        return {
            "series_instance_uid": UID(),
            "series_number": number,
            "sop_instance_uid": UID(),
            "instance_number": 1,
            "series_description": description,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": self.label,
            "software_versions": __version__,
            "device_serial_number": self.revision[:LONG_STRING],
        }


def make_code(value: str, meaning: str) -> "CodedConcept":
    """Make a code of our own, for what no standard has a code."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value, SCHEME, meaning)
