import re
from dataclasses import replace

import numpy as np
import pytest
from pages import NASTY, Page, report_of, thumbnail, written

from regraft.data.manifest import Skipped
from regraft.evaluation.metrics import evaluate
from regraft.evaluation.report import Report, write_report


@pytest.fixture(scope="module")
def page_of_two(tmp_path_factory):
    return written(report_of(["ants", "bees"]), tmp_path_factory.mktemp("report"))


def test_page_is_well_formed_and_fits_a_phone(page_of_two):
    page = Page(page_of_two)
    assert page_of_two.startswith("<!DOCTYPE html>")
    assert (page.wrong, page.open) == ([], [])
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert "prefers-color-scheme:dark" in page_of_two
    identifiers = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    targets = {attrs["href"][1:] for attrs in (*page.all("a"), *page.all("use"))}
    assert targets <= set(identifiers)


def test_page_fetches_nothing(page_of_two):
    page = Page(page_of_two)
    own = re.sub(r"base64,[\w+/=]+", "", page_of_two)
    assert not re.search(r"https?:|//|@import|url\(", own)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.tags}
    for _, attrs in page.tags:
        assert attrs.get("src", "data:").startswith("data:image/jpeg;base64,") or "src" not in attrs
        assert attrs.get("href", "#").startswith("#")
    policy = next(attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'")


def test_page_tells_its_pictures_and_tables_to_those_who_do_not_see(page_of_two):
    page = Page(page_of_two)
    assert page.all("html") == [{"lang": "en"}]
    assert page.all("img")
    assert all(attrs["alt"] for attrs in page.all("img"))
    assert all(attrs.get("scope") in {"row", "col"} for attrs in page.all("th"))
    assert all("aria-label" in a or "aria-hidden" in a for a in page.all("svg"))
    assert all("aria-label" in a and "tabindex" in a for a in page.all("div") if a.get("class") == "scroll")


def test_headline_says_number_interval_part_baseline_and_caution(page_of_two):
    result = report_of(["ants", "bees"]).evaluation
    text = " ".join("".join(Page(page_of_two).text).split())
    low, high = result.intervals["accuracy"]
    assert f"Validation accuracy {result.scores['accuracy']:.3f}" in text
    assert f"95 % interval {low:.3f} to {high:.3f}" in text
    assert f"always answering ‘{result.baseline_class}’ gives {result.baseline_accuracy:.3f}" in text
    assert "makes this number optimistic" in text
    assert f"{result.scores['macro_f1']:.3f}" in text


def test_sections_stand_in_order(page_of_two):
    found = [a["id"] for a in Page(page_of_two).all("section")]
    assert found == ["headline", "batch", "confusion", "gallery", "confidence", "classes", "map", "making"]
    for words in ("regraft train DATA --seed 0", "truncated", "not an image", "turned upright", "2.84 s", "OpenVINO"):
        assert words in page_of_two


def test_a_test_part_carries_no_caution(tmp_path):
    report = report_of(["ants", "bees"])
    html = written(replace(report, evaluation=evaluate(report.predictions, split="test")), tmp_path)
    assert "Test accuracy" in html
    assert "optimistic" not in html


def test_a_model_no_better_than_a_constant_answer_is_called_so(tmp_path):
    html = written(report_of(["ants", "bees"], n=20, strength=0.0), tmp_path)
    assert "cannot tell this model from one that always answers" in html


def test_names_cannot_break_the_page(tmp_path):
    report = report_of(
        NASTY,
        n=80,
        title=NASTY[0],
        command="regraft train '" + NASTY[1] + "\udcff'",
        chosen={NASTY[0]: NASTY[1]},
        history=[{NASTY[1]: NASTY[0]}],
        skipped=(Skipped("\udcff" + NASTY[1], NASTY[0]),),
        environment={NASTY[0]: NASTY[4]},
        timings={NASTY[0]: 0.0},
        batch=(("/no/\udcff<b>.jpg", NASTY[0]), ("/no/x.jpg", None)),
    )
    paths = tuple(f"{NASTY[i % 7]}/{i}\udcfe.jpg" for i in range(80))
    html = written(replace(report, predictions=replace(report.predictions, paths=paths)), tmp_path)
    page = Page(html)
    assert (page.wrong, page.open) == ([], [])
    assert not page.all("script")
    assert not any("onerror" in attrs for _, attrs in page.tags)
    text = "".join(page.text)
    for shown in (NASTY[0], NASTY[1], NASTY[2], "猫咪", r"caf\xe9", r"turned\u202eround", r"A&B 'quoted'\x07"):
        assert shown in text
    assert not re.search("[\ud800-\udfff\u202e\x07]", html)


def test_pictures_that_cannot_be_shown_say_why(tmp_path):
    report = report_of(["a", "b"], batch=(("broken.jpg", "a"), ("strange.jpg", "b"), ("good.jpg", "a")))
    html = written(report, tmp_path)
    assert "No picture: truncated after 12 bytes" in html
    assert "No picture: cannot be shown (RuntimeError)" in html


def test_equal_contents_give_equal_bytes(tmp_path):
    first, second = (written(report_of(NASTY), tmp_path) for _ in range(2))
    assert first == second


def test_forty_classes_have_a_matrix_and_seventy_a_list(tmp_path):
    forty = Page(written(report_of([f"action_{i}" for i in range(40)], n=200), tmp_path))
    cells = [a for a in forty.all("td") if re.search(r"\b[dez]\b", a.get("class", ""))]
    assert len(cells) == 1600
    many = written(report_of([f"action_{i}" for i in range(70)], n=200), tmp_path)
    assert "too many for a table" in many
    assert 'class="matrix' not in many


def test_a_bare_report_is_written(tmp_path):
    report = report_of(["a", "b"], n=1)
    bare = Report(report.title, report.command, report.evaluation, report.predictions)
    page = Page(written(bare, tmp_path))
    assert (page.wrong, page.open) == ([], [])
    assert [a["id"] for a in page.all("section")] == [
        "headline",
        "confusion",
        "gallery",
        "confidence",
        "classes",
        "making",
    ]
    assert "every file was read" in "".join(page.text)


def test_every_file_was_used_is_said_only_where_it_is_true(tmp_path):
    report = report_of(["a", "b"], skipped=(), rejected=())
    assert "every file was read and used" in written(report, tmp_path)
    from_file = written(replace(report, from_file=True), tmp_path)
    assert "every file" not in from_file
    assert "The features came from a file" in from_file
    unknown = written(replace(report, left_out=("3 images have labels that the model does not know.",)), tmp_path)
    assert "every file" not in unknown
    assert "3 images have labels that the model does not know." in unknown


def test_what_to_expect_of_new_images_is_said_only_of_new_images(tmp_path):
    report = report_of(["ants", "bees"])
    promise = "On new images of the same kind, expect"

    def page(**given):
        return written(replace(report, evaluation=evaluate(report.predictions, **given)), tmp_path)

    assert promise not in page(split="val")
    assert promise in page(split="test")
    foreign = page(split="train")
    assert promise in foreign
    assert "learned from." not in foreign
    seen = page(split="test", seen=40)
    assert promise not in seen
    assert seen.count("40 of 60 images were in the model&#39;s training part") == 1
    assert seen.index("40 of 60 images were") < seen.index('class="ruler"')


def test_everything_is_not_called_all(tmp_path):
    report = report_of(["ants", "bees"])
    result = evaluate(report.predictions, split="all")
    html = written(replace(report, evaluation=result, others=(result,)), tmp_path)
    text = " ".join("".join(Page(html).text).split())
    assert f"{result.confusion.trace()} of 60 images are named rightly." in text
    assert re.search(r">Accuracy</p>", html)
    assert not re.search(r"\ball (accuracy|images)", text, re.IGNORECASE)
    assert "trained on" not in text  # the parts are this data's, not the model's


@pytest.mark.filterwarnings("error")
def test_extreme_numbers_do_not_lose_the_report(tmp_path):
    report = report_of(
        ["a", "b"],
        chosen={"C": float("inf")},
        history=[
            {"C": 10.0 ** (300 * i), "log_loss": 1.7e308 * i, "fold_log_loss": [float("nan")]} for i in (-1, 0, 1)
        ],
    )
    logits = np.sign(report.predictions.logits) * 1.7e308
    predictions = replace(report.predictions, logits=logits)
    features = report.features.astype(np.float64) * 1e307
    report = replace(report, predictions=predictions, evaluation=evaluate(predictions, split="val"), features=features)
    page = Page(written(report, tmp_path))
    assert "map" in [a["id"] for a in page.all("section")]
    assert (page.wrong, page.open) == ([], [])


def test_others_and_notes_are_told(tmp_path):
    report = report_of(["a", "b"])
    train = evaluate(report.predictions, split="train", seen=60)
    html = written(replace(report, others=(train,), notes=("Strength not chosen: too few images.",)), tmp_path)
    assert "Training accuracy" in html
    assert "say little about new images" in html
    assert "Strength not chosen" in html


def test_a_report_that_fails_leaves_no_file(tmp_path):
    report = replace(report_of(["a", "b"]), timings={"fit": "not a number"})
    with pytest.raises(TypeError):
        write_report(report, tmp_path / "report.html", thumbnail=thumbnail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.shared
def test_real_photographs_make_a_small_file(shared_data, tmp_path):
    photographs = sorted((shared_data / "hymenoptera" / "val").glob("*/*.jpg"))[:50]
    report = report_of(["ants", "bees"], n=50)
    report = replace(report, predictions=replace(report.predictions, paths=tuple(map(str, photographs))))
    write_report(report, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count("data:image/jpeg") >= 15
    assert len(html) < 1_000_000
