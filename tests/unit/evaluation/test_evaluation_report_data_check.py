"""The page of the data check."""

import re

from odd_images import picture
from regraft.evaluation.report.data_check import GROUPS_SHOWN, CheckPage, Finding, Shown, write_check_page


def page(tmp_path, findings):
    write_check_page(
        CheckPage("photos: 3 images", findings, {"images": "3"}, command="regraft check photos"), tmp_path / "c.html"
    )
    return (tmp_path / "c.html").read_text("utf-8")


def test_pictures_are_inside_and_nothing_is_fetched(tmp_path):
    for n in range(2):
        picture(0, n).save(tmp_path / f"{n}.jpg")
    pair = tuple(Shown(str(tmp_path / f"{n}.jpg"), "<b>cat", "train", "likeness 0.9") for n in range(2))
    lost = Shown(str(tmp_path / "absent.jpg"), note="file not found")
    text = page(
        tmp_path, (Finding("near", "Near", "one pair", True, (pair,)), Finding("lost", "Lost", "one", True, ((lost,),)))
    )
    assert text.count('src="data:image/jpeg;base64,') == 2
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "<b>cat" not in text
    assert "&lt;b&gt;cat" in text
    assert "2 findings that matter" in text
    assert 'href="#near"' in text
    assert "No picture" in text
    assert page(tmp_path, ()) == page(tmp_path, ())


def test_much_is_cut_and_said(tmp_path):
    groups = tuple((Shown(f"/none/{n}.jpg"),) for n in range(GROUPS_SHOWN + 5))
    text = page(tmp_path, (Finding("odd", "Odd", "many", False, groups),))
    assert text.count("<figure>") == GROUPS_SHOWN
    assert f"The first {GROUPS_SHOWN} of {GROUPS_SHOWN + 5}" in text
    assert "Nothing that makes numbers wrong" in text
    assert "Nothing was found" in page(tmp_path, ())


def test_findings_as_json():
    finding = Finding("odd", "Odd", "many", False, ((Shown("/a", "x", "train", "why"),),))
    assert finding.to_dict() == {
        "kind": "odd",
        "matters": False,
        "sentence": "many",
        "images": [[{"path": "/a", "label": "x", "split": "train", "note": "why"}]],
    }
