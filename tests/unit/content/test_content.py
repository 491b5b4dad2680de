"""Content tokens through the real encoders: shapes, missing and broken content, order of patches, re-runs."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.configuration import read
from features.content.encode import EncodedCounts, ItemContent, encode_items, encoder_hash
from features.content.fetch import Flaw, fetch
from features.content.hash import image_sha, text_sha
from features.content.image import decode
from features.layout import Layout
from features.settings import ContentSettings
from trainer.tokens import TokenStore

pytestmark = pytest.mark.slow

SETTINGS = read(ContentSettings, {"max_text_tokens": 12, "batch_size": 4})


def png(photo: Image.Image) -> bytes:
    """The bytes of a photo."""
    sink = io.BytesIO()
    photo.save(sink, "PNG")
    return sink.getvalue()


def put_blob(layout: Layout, data: bytes) -> str:
    """Store a blob; its URI."""
    sha = hashlib.sha256(data).hexdigest()
    layout.blob(sha).parent.mkdir(parents=True, exist_ok=True)
    layout.blob(sha).write_bytes(data)
    return f"blob:{sha}"


def plain(*colour: int) -> Image.Image:
    """A photo of one colour."""
    return Image.new("RGB", (90, 90), colour)


Stored = tuple[Layout, list[ItemContent], EncodedCounts]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """A store with good, missing and broken content."""
    layout = Layout(tmp_path_factory.mktemp("content"))
    corner = plain(0, 0, 0)
    corner.paste((255, 255, 255), (60, 0, 90, 30))  # the third patch in reading order
    items = [
        ItemContent(*item)
        for item in (
            ("red apple", "fresh and sweet", put_blob(layout, png(plain(200, 10, 10)))),
            ("red apple", "fresh and sweet", put_blob(layout, png(corner))),
            ("cauliflower " * 30, "a description that no longer fits", put_blob(layout, b"no photo at all")),
            (None, "milk", "blob:" + "0" * 64),
            (" ", None, None),
            ("bread", "", "ftp://somewhere/bread.png"),
        )
    ]
    return layout, items, encode_items(items, SETTINGS, layout)


def test_counts_tell_what_was_met(stored: Stored) -> None:
    _, _, counts = stored
    assert (counts.items, counts.texts_encoded, counts.texts_known, counts.texts_missing) == (6, 4, 1, 1)
    assert (counts.images_encoded, counts.images_broken, counts.images_missing, counts.images_refused) == (2, 1, 2, 1)


def test_a_second_run_encodes_nothing_and_changes_no_byte(stored: Stored) -> None:
    layout, items, first = stored
    files = sorted(layout.tokens(first.encoder).iterdir())
    before = [path.read_bytes() for path in files]
    again = encode_items(items, SETTINGS, layout)
    assert (again.texts_encoded, again.images_encoded, again.images_broken) == (0, 0, 1)
    assert [path.read_bytes() for path in files] == before


def test_gather_masks_what_is_missing(stored: Stored) -> None:
    layout, items, counts = stored
    store = TokenStore(layout.tokens(counts.encoder))
    text_rows = store.rows([text_sha(title, description) for title, description, _ in items])
    image_rows = store.rows([image_sha(uri) for _, _, uri in items])
    text, text_len = store.gather_text(text_rows)
    image, image_global = store.gather_image(image_rows)
    assert text.shape == (6, 12, 384) and image.shape == (6, 9, 1280)
    assert text_len.tolist()[2:] == [12, 1, 0, 1]
    assert text_rows[0] == text_rows[1] and (image_rows >= 0).tolist() == [True, True, False, False, False, False]
    assert not text[4].any() and not image[2:].any() and not image_global[2:].any()
    assert not text[0, text_len[0] :].any() and text[0, text_len[0] - 1].any()


def test_patches_come_in_reading_order(stored: Stored) -> None:
    layout, items, counts = stored
    store = TokenStore(layout.tokens(counts.encoder))
    patches, _ = store.gather_image(store.rows([image_sha(items[1][2])]))
    far = np.abs(patches[0].astype(np.float32) - patches[0, 6].astype(np.float32)).sum(axis=1)
    assert (far > 1.0).tolist() == [at == 2 for at in range(9)]


def test_tokens_do_not_depend_on_their_batch(stored: Stored, tmp_path: Path) -> None:
    layout, _, counts = stored
    alone = Layout(tmp_path)
    encode_items([("red apple", "fresh and sweet", None)], SETTINGS, alone)
    sha = [text_sha("red apple", "fresh and sweet")]
    together, single = (
        store.gather_text(store.rows(sha))[0].astype(np.float32)
        for store in (TokenStore(x.tokens(counts.encoder)) for x in (layout, alone))
    )
    np.testing.assert_allclose(together, single, atol=2e-3)


def test_encoder_hash_follows_what_changes_tokens() -> None:
    same = replace(SETTINGS, batch_size=32, allowed_hosts=("x",))
    assert encoder_hash(same) == encoder_hash(SETTINGS)
    assert encoder_hash(replace(SETTINGS, max_text_tokens=13)) != encoder_hash(SETTINGS)
    assert encoder_hash(replace(SETTINGS, image_size=32)) != encoder_hash(SETTINGS)


def test_any_timm_model_gives_its_own_width(tmp_path: Path) -> None:
    import timm
    import torch

    weights = tmp_path / "resnet10t.pth"
    torch.save(timm.create_model("resnet10t", pretrained=False).state_dict(), weights)
    settings = replace(SETTINGS, image_encoder="resnet10t", image_weights=weights, image_size=32, max_text_tokens=4)
    layout = Layout(tmp_path)
    counts = encode_items([("a", None, put_blob(layout, png(plain(1, 2, 3))))], settings, layout)
    assert TokenStore(layout.tokens(counts.encoder)).widths.image_width == 512
    assert encoder_hash(settings) != encoder_hash(replace(settings, image_encoder="resnet14t"))


@pytest.mark.parametrize(
    ("uri", "flaw"),
    [
        ("file:/etc/passwd", Flaw.REFUSED),
        ("file:../secret.png", Flaw.REFUSED),
        ("file:link/secret.png", Flaw.REFUSED),
        ("file://otherhost/photo.png", Flaw.REFUSED),
        ("file:none.png", Flaw.MISSING),
        ("https://elsewhere.example/photo.png", Flaw.REFUSED),
        ("https://good.example@elsewhere.example/photo.png", Flaw.REFUSED),
        ("http://good.example/photo.png", Flaw.REFUSED),
        ("s3://bucket/photo.png", Flaw.REFUSED),
        ("blob:../../etc/passwd", Flaw.REFUSED),
        ("blob:" + "1" * 64, Flaw.MISSING),
        ("https://[", Flaw.REFUSED),
    ],
)
def test_only_allowed_places_are_read(uri: str, flaw: Flaw, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (root / "link").symlink_to(tmp_path)
    settings = read(ContentSettings, {"image_root": root, "allowed_hosts": ("good.example",)})
    assert fetch(uri, settings, Layout(tmp_path)) is flaw


def test_files_below_the_root_are_read(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(b"photo")
    settings = read(ContentSettings, {"image_root": tmp_path})
    for uri in ("file:a%20b.png", f"file:{tmp_path}/a%20b.png", f"file://{tmp_path}/a%20b.png"):
        assert fetch(uri, settings, Layout(tmp_path)) == b"photo"
    assert fetch("file:a%20b.png", replace(settings, max_image_bytes=4), Layout(tmp_path)) is Flaw.BROKEN


def test_a_blob_with_other_bytes_is_broken(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    uri = put_blob(layout, b"one")
    layout.blob(uri.removeprefix("blob:")).write_bytes(b"two")
    assert fetch(uri, SETTINGS, layout) is Flaw.BROKEN


def test_decode_takes_photos_and_nothing_else() -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    seen = decode(png(clear))
    assert seen is not None and seen.getpixel((4, 4)) == (255, 255, 255)
    whole = png(plain(9, 9, 9))
    assert decode(whole[: len(whole) // 2]) is None
    assert decode(png(Image.new("RGB", (2, 2)))) is None
    assert decode(b"") is None
