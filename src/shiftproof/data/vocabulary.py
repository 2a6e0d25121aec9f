"""The one list of words for folders, file names and labels: good, defective, mask, split, and folders of the system.

Shop floors name their folders in their own language. Everything that reads a data set asks :func:`meaning` here.
"""

from __future__ import annotations

import re
import unicodedata
from enum import Enum
from functools import lru_cache


class Meaning(Enum):
    """What a name says about the images below it."""

    GOOD = "good"
    DEFECTIVE = "defective"
    MASK = "mask"
    UNCLEAR = "unclear"
    """It says good and defective at once, such as ``ok_ng``."""
    UNKNOWN = "unknown"
    """It says nothing: a date, a machine, or a kind of defect without a common name."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_GOOD = _set(
    """
    good goods ok okay normal normals pass passed io gut gute guter gutteil gutteile fehlerfrei mangelfrei
    einwandfrei bon bonne bons bonnes conforme conformes buono buoni buona buone bueno buenos buena buenas correcto
    correcta aceptado aprobado bom bons aprovado goed goede goedgekeurd godkand godkend godkjent hyva dobry dobre
    dobra dobri dobr vyhovuje zgodny accept accepted acceptable nominal healthy flawless intact undamaged
    nondefective conforming 良品 良 良好 正常 正常品 合格 合格品 양품 정상 합격 годен годные годный норма нормальный хороший
    """
)
_DEFECTIVE = _set(
    """
    bad ng nok nio ko def defs fail fails failed failure failures fault faults faulty fehler fehlerhaft fehlteile
    schlecht schlechte schlechtteil schlechtteile ausschuss mangelhaft kratzer riss reject rejects rejected
    rejection scrap broken damage damaged damages crack cracks cracked scratch scratches scratched dent dents
    contamination abnormal abnormals abnormality outlier outliers nonconforming nonconformity nonconforme mauvais
    mauvaise rebut rebuts defaut defauts malo malos mala malas falla fallas fallo rechazado rechazo error errors
    scarto scarti guasto ruim reprovado afkeur afgekeurd fout fouten underkand vika viallinen wada wadliwy zly vadny
    vadne zmetek unacceptable unhealthy incorrect incorrecto
    不良 不良品 不合格 不合格品 異常 异常 缺陷 欠陥 瑕疵 次品 불량 불량품 이상 불합격 결함
    брак дефект дефекты дефектный негоден плохой
    """
)
_DEFECTIVE_STEMS = ("defe", "defek", "anomal", "difett", "wadliw", "дефект", "бракован")
_MASK = _set(
    """
    mask masks masque masques maske masken maschera maschere mascara mascaras masker maskers groundtruth
    groundtruths segmentationclass segmentationobject マスク 掩码 掩膜 마스크 маска маски
    """
)
_MASK_ALONE = _set(
    """
    gt gts ground truth segmentation segmentations seg segs annotation annotations annot annots label labels
    """
)
"""They mean masks where nothing else is said: ``labels`` holds masks, ``missing_label`` is a kind of defect."""
_FILLING = _set(
    """
    dir dirs directory folder folders image images img imgs png train val valid test map maps class object
    """
)
_NOT = _set(
    """
    not no non nicht nie kein keine un without ohne sans sin senza zonder bez n ne neg не нет без
    """
)
_FREE = _set("free frei libre")  # defect_free
_SYSTEM = _set(
    """
    @eadir @tmp @sharebin @recycle @recently-snapshot @__thumb @__desc__ #recycle #snapshot ~snapshot $recycle.bin
    recycler __macosx __pycache__ lost+found found.000
    """
) | {"system volume information", "network trash folder", "temporary items"}
_SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "calibration",
    "valid": "calibration",
    "validation": "calibration",
    "calibration": "calibration",
}
_TWIN = re.compile(r"(.+?)[ ._-]?(?:mask|gt|label|seg|annotation|groundtruth|ground[ _-]truth)", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_GERMAN_OK = re.compile(r"(?<![^\W_])n?iO(?![^\W_])")
_DOTTED = re.compile(r"(?<![^\W_])((?:[^\W\d_]\.)+[^\W\d_])\.?(?![^\W_])")  # i.O., N.G.


@lru_cache(maxsize=4096)
def meaning(name: str) -> Meaning:
    """What a folder's name or a label says; a name for masks is one whatever else it says.

    >>> [meaning(name).value for name in ("OK", "ok_front", "n.i.O.", "not good", "defect-free", "MASK", "monday")]
    ['good', 'good', 'defective', 'defective', 'good', 'mask', 'unknown']
    """
    words = _words(name)
    telling = [word for word in words if word not in _FILLING]
    if any(word in _MASK for word in words) or (telling and all(word in _MASK_ALONE for word in telling)):
        return Meaning.MASK
    found = set()
    for place, word in enumerate(words):
        kind = _meaning_of_word(word)
        if kind is None:
            continue
        denied = (place > 0 and words[place - 1] in _NOT) or (place + 1 < len(words) and words[place + 1] in _FREE)
        found.add(_OPPOSITE[kind] if denied else kind)
    if len(found) > 1:
        return Meaning.UNCLEAR
    return found.pop() if found else Meaning.UNKNOWN


def is_system_folder(name: str) -> bool:
    """Whether an operating system or a network drive keeps thumbnails, snapshots or deleted files under this name."""
    return name.startswith(".") or name.casefold() in _SYSTEM


def split_of(name: str) -> str | None:
    """The split that a folder's name says: train, calibration or test; None where it says none.

    >>> split_of("Valid"), split_of("train2017"), split_of("good")
    ('calibration', 'train', None)
    """
    return _SPLITS.get(re.sub(r"[\d_-]+$", "", name.casefold()))


def image_of_mask(stem: str) -> str | None:
    """The stem of the image that a mask beside it belongs to, by its name; None for a name that is no mask's.

    >>> image_of_mask("0001_mask"), image_of_mask("0001-GT"), image_of_mask("0001")
    ('0001', '0001', None)
    """
    match = _TWIN.fullmatch(stem)
    return match[1] if match else None


_OPPOSITE = {Meaning.GOOD: Meaning.DEFECTIVE, Meaning.DEFECTIVE: Meaning.GOOD}


def _meaning_of_word(word: str) -> Meaning | None:
    if word in _GOOD:
        return Meaning.GOOD
    if word in _DEFECTIVE or word.startswith(_DEFECTIVE_STEMS):
        return Meaning.DEFECTIVE
    return None


def _words(name: str) -> list[str]:
    """Words in lower case without accents: ``n.i.O.`` and ``N_I_O`` are one word, ``NotOK`` and ``mask2`` are split."""
    name = unicodedata.normalize("NFC", name)
    name = _DOTTED.sub(lambda match: match[1].replace(".", "").lower(), name)
    name = _GERMAN_OK.sub(lambda match: match[0].lower(), name)
    words = [word for word in re.split(r"[\W\d_]+", _CAMEL.sub(" ", name)) if word]
    plain = [_without_accents(word.casefold()) for word in words]
    if plain and all(len(word) == 1 for word in plain):
        return ["".join(plain)]  # n_i_o
    return plain


def _without_accents(word: str) -> str:
    if not word.isascii() and all(ord(char) < 0x250 for char in word):
        word = "".join(char for char in unicodedata.normalize("NFD", word) if not unicodedata.combining(char))
    return word
