"""Writes docs/codes/: an index and one page per code, from idemfuzz/diagnose/codes.py.

    python docs/gen_codes.py

`tests/meta/test_docs.py` fails where the pages are not what this makes of the codes.
"""

from __future__ import annotations

from pathlib import Path

from idemfuzz.diagnose import CODES, Code

FOLDER = Path(__file__).parent / "codes"

FAMILIES = {
    "1": ("Duplicated", "Something is there twice that one delivery leaves once."),
    "2": ("Lost or torn", "The queue thinks that the job is done, and its work is missing, or half of it."),
    "3": ("Stuck", "No redelivery brings the job to its end."),
    "4": ("Noise", "Notes. They fail nothing by themselves; IDM401 is a finding with `strict=True`."),
    "5": ("The queue's doings", "Notes of a stress run: what RQ was seen to do. None is a fault of the job."),
    "9": (
        "Doubts",
        "What idemfuzz doubts about its own search. The verdict is *unknown*, which is never a pass.",
    ),
}
HEAD = "<!-- Made by docs/gen_codes.py from idemfuzz/diagnose/codes.py: change it there. -->\n\n"


def pages() -> dict[str, str]:
    """File name -> content."""
    return {"index.md": _index(), **{f"{code}.md": _page(entry) for code, entry in CODES.items()}}


def _index() -> str:
    parts = [
        f"{HEAD}# Codes\n\nEach finding and each note has a code that stays the same over versions. "
        "`idemfuzz explain IDM101` prints the same text.\n"
    ]
    for digit, (title, meaning) in FAMILIES.items():
        rows = [f"| [{c.code}]({c.code}.md) | {c.title} |\n" for c in CODES.values() if c.code[3] == digit]
        parts.append(f"\n## {digit}xx: {title}\n\n{meaning}\n\n| code | title |\n|---|---|\n{''.join(rows)}")
    return "".join(parts)


def _page(entry: Code) -> str:
    title, _ = FAMILIES[entry.code[3]]
    leave_out = (
        f'It can be left out for one job, where it is meant: `ignore=["{entry.code}"]`. The certificate names it.\n'
        if entry.code[3] in "123"
        else ""
    )
    return (
        f"{HEAD}# {entry.code}: {entry.title}\n\n*{title}*\n\n{_sentence(entry.meaning)}\n\n"
        f"## What to do\n\n{_sentence(entry.remedy)}\n\n{leave_out}"
        + ("\n" if leave_out else "")
        + "See [reading a finding](../reading-a-finding.md) and [writing jobs that hold](../writing-jobs.md).\n"
    )


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    made = pages()
    for path in FOLDER.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
