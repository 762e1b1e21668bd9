"""Tables of the Titanic's passengers as they go around: missing values, encodings, separators, names of columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from experiments.passengers import NEEDED, read_passengers
from experiments.relu_regions import titanic
from fnet_callbacks import FnetError

HEADER = '"pclass","survived","name","sex","age","sibsp","parch","ticket","fare","home.dest"'
ROWS = (
    '1,1,"Allen, Miss. Elisabeth Walton","female",29,0,0,"24160",211.3375,"St Louis, MO"',
    '1,0,"Allison, Mr. Hudson ""Joshua""","male",30.5,1,2,"113781",151.55,""',
    '3,0,"Storey, Mr. Thomas","male",60.5,0,0,"3701",,""',
    '3,1,"Lundström, Mr. Thure Edvin","male",,0,0,"350403",7.5792,""',
)
EXPECTED: Mapping[str, list[float]] = {
    "survived": [1, 0, 0, 1],
    "pclass": [1, 1, 3, 3],
    "sex": [1, 0, 0, 0],
    "age": [29, 30.5, 60.5, 30.5],
    "sibsp": [0, 1, 0, 0],
    "parch": [0, 2, 0, 0],
    "fare": [211.3375, 151.55, 151.55, 7.5792],
}
PLAIN = "\n".join([HEADER, *ROWS]) + "\n"


def plain(missing: str) -> str:
    return "\n".join(
        [
            "pclass,survived,name,sex,age,sibsp,parch,fare",
            "1,1,A,female,29,0,0,211.3375",
            "1,0,B,male,30.5,1,2,151.55",
            f"3,0,C,male,60.5,0,0,{missing}",
            f"3,1,D,male,{missing},0,0,7.5792",
        ]
    )


def in_fields(text: str, separator: str) -> str:
    return text.replace(",", separator)


KAGGLE = (
    "PassengerId,Survived,Pclass,Name,Sex,Age,SibSp,Parch,Ticket,Fare,Cabin,Embarked\r\n"
    '1,1,1,"Allen, Miss.",female,29,0,0,A/5 21171,211.3375,,S\r\n2,0,1,"B, (""C"")",male,30.5,1,2,x,151.55,,\r\n'
    "3,0,3,C,male,60.5,0,0,x,,,Q\r\n4,1,3,D,male,,0,0,x,7.5792,,S\r\n5,,3,E,male,,0,0,x,7,,S\r\n"
)
TABLES: dict[str, bytes] = {
    "in UTF-8": PLAIN.encode(),
    "with a mark of its encoding": PLAIN.encode("utf-8-sig"),
    "in Latin-1": PLAIN.encode("latin-1"),
    "in UTF-16": PLAIN.encode("utf-16"),
    "with an empty last row": (PLAIN + ",,,,,,,,,\n\n").encode(),
    "with ends of lines of Windows": PLAIN.replace("\n", "\r\n").encode(),
    "with ends of lines of the old Macintosh": PLAIN.replace("\n", "\r").encode(),
    "Kaggle's, with one of unknown fate": KAGGLE.encode(),
    "in capitals": PLAIN.replace(HEADER, HEADER.upper())
    .replace('"female"', '"Female"')
    .replace('"male"', "MALE")
    .encode(),
    "with spaces": plain("").replace(",", ", ").replace("female", " female ").encode(),
    "with semicolons": in_fields(plain(""), ";").encode(),
    "with semicolons and decimal commas": in_fields(plain(""), ";").replace(".", ",").encode(),
    "Excel's, which says so": ("sep=;\n" + in_fields(plain("NA"), ";").replace(".", ",")).encode(),
    "with tabs": in_fields(plain("NULL"), "\t").encode(),
    "with bars": in_fields(plain("?"), "|").encode(),
    "with single quotes": plain("?")
    .replace(",A,", ",'Allen, Miss.',")
    .replace("female", "'female'")
    .encode(),
    "with words": plain("")
    .replace("\n1,1,", "\n1st,yes,")
    .replace("\n1,0,", "\nFirst class,False,")
    .replace("\n3,", "\n3.0,")
    .encode(),
    "with longer names": plain("")
    .replace("sibsp,parch", "Siblings/Spouses Aboard,Parents/Children Aboard")
    .replace("sex", "Gender")
    .encode(),
    **{
        f"with {word} for what is missing": plain(word).encode()
        for word in ("?", "NA", "NaN", "null", "-", '""')
    },
}


@pytest.mark.parametrize("name", TABLES)
def test_a_public_table_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "titanic3.csv").write_bytes(TABLES[name])
    found = read_passengers(tmp_path)
    assert list(found) == list(NEEDED)
    for column, expected in EXPECTED.items():
        np.testing.assert_array_equal(found[column], expected, err_msg=column)


def test_a_missing_fare_leaves_every_feature_finite(tmp_path: Path) -> None:
    (tmp_path / "titanic").mkdir()
    (tmp_path / "titanic" / "TITANIC3.CSV").write_bytes(PLAIN.encode("latin-1"))
    table = titanic(tmp_path)
    assert table.values.isfinite().all()
    assert table.labels.tolist() == [1, 0, 0, 1]


def test_files_that_are_no_such_table_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "b.csv").write_text("survived,pclass\n1,1\n")
    (tmp_path / "c.csv").write_text("")
    (tmp_path / "d.csv").mkdir()
    (tmp_path / "e.csv").write_text(PLAIN)
    assert read_passengers(tmp_path)["fare"][0] == 211.3375


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            plain("").replace("30.5", "thirty"),
            r"titanic\.csv, line 3: `age` is 'thirty', it should be a number",
        ),
        (
            plain("").replace("30.5", "-4"),
            r"line 3: `age` is '-4', it should be a number of at least 0, or empty",
        ),
        (plain("").replace("30.5", "inf"), r"line 3: `age` is 'inf'"),
        (plain("").replace("151.55", "£151"), r"line 3: `fare` is '£151'"),
        (plain("").replace("\n1,1,A", "\n4,1,A"), r"line 2: `pclass` is '4', it should be 1, 2 or 3, or 1st"),
        (
            plain("").replace("\n1,1,A", "\n1,2,A"),
            r"line 2: `survived` is '2', it should be 0 or 1, yes or no",
        ),
        (plain("").replace("female", "woman"), r"line 2: `sex` is 'woman', it should be female or male"),
        (plain("").replace(",A,", ",Allen, Miss.,"), r"line 2: 9 fields for 8 columns; what holds a ','"),
        (plain("").split("\n")[0], "of none of its 0 rows survived, pclass, sex are known"),
        (plain("").replace("0,0,", ",0,").replace("1,2,151", ",2,151"), "`sibsp` is missing in every row"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "titanic.csv").write_text(text, encoding="utf-8")
    with pytest.raises(FnetError, match=message):
        read_passengers(tmp_path)
