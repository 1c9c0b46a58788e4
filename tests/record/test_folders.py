"""Folders that are claimed by one run each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from auxgrad.record.folders import claim_folder, file_name


def test_a_folder_is_claimed_once(tmp_path):
    wanted = tmp_path / "sweep" / "Projection_lam=1"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(claim_folder, [wanted] * 20))
    assert sorted(folder.name for folder in found) == sorted(
        ["Projection_lam=1", *(f"Projection_lam=1_{number}" for number in range(2, 21))]
    )


def test_any_text_is_a_file_name():
    assert file_name("data.path=/a b/c:d") == "data.path=_a_b_c_d"
    assert len(file_name("x" * 500)) == 200
