"""What is done to each column of a table, against the same done by hand."""

import datetime as dt
import re
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from luce.data import cells
from luce.data.columns import describe, make_pipeline
from luce.data.pixels import Pixels
from luce.errors import InputError


def fitted(X, y=None, text=None):
    y = np.arange(len(X)) % 2 if y is None else y
    return make_pipeline(X, LogisticRegression(), text=text).fit(X, y)


def matrix(model, X):
    Z = model[:-1].transform(X)
    return Z.toarray() if sparse.issparse(Z) else Z


def done(model):
    return {column: (kind, what) for column, kind, what in describe(model)}


def wild_table(n=60, seed=0):
    rng = np.random.default_rng(seed)
    words = ["good", "bad", "film", "fine", "awful", "great", "plot", "actor", "scene", "music"]
    table = pd.DataFrame(
        {
            "id": np.arange(n),
            "age": rng.normal(40, 10, n),
            "town": rng.choice(["Ulm", "Bonn", "Köln", None], n),
            "member": rng.random(n) < 0.5,
            "price": [f"{v:.2f}".replace(".", ",") for v in rng.normal(40, 10, n)],
            "joined": pd.date_range("2020-01-01", periods=n),
            "review": [" ".join(rng.choice(words, 7)) for _ in range(n)],
            "empty": None,
            "constant": 7,
            "token": [f"x{i:05x}" for i in range(n)],
        }
    )
    table.loc[3:9, "age"] = np.nan
    return table


class TestNumbers:
    def test_are_imputed_flagged_and_standardised(self):
        x = np.array([1.0, np.nan, 4.0, 2.0, 9.0])
        filled = np.where(np.isnan(x), 4.0, x)  # 4 is the mean of 1, 2, 4, 9
        flag = np.isnan(x).astype(float)
        expected = np.stack([(v - v.mean()) / v.std() for v in (filled, flag)], axis=1)
        table = pd.DataFrame({"x": x})
        np.testing.assert_allclose(matrix(fitted(table), table), expected, rtol=1e-13)

    def test_missing_only_at_predict_time_take_the_mean(self):
        model = fitted(pd.DataFrame({"x": [1.0, 2.0, 6.0]}))
        np.testing.assert_array_equal(
            matrix(model, pd.DataFrame({"x": [None, 2.0]}, dtype=object)),
            matrix(model, pd.DataFrame({"x": [3.0, 2.0]})),
        )

    def test_large_offsets_keep_their_digits(self):
        seconds = 1.7e9 + np.arange(10.0)
        expected = (seconds - seconds.mean()) / seconds.std()
        table = pd.DataFrame({"x": seconds})
        np.testing.assert_allclose(matrix(fitted(table), table)[:, 0], expected, atol=1e-6)

    @pytest.mark.parametrize("wide, dtype", [(None, np.float32), ("x", np.float64)])
    def test_float32_stays_unless_another_column_is_wider(self, wide, dtype):
        table = pd.DataFrame({"x": [1.0, 2.0, 3.0], "z": [3.0, 2.0, 1.0], "c": ["a", "b", "a"]})
        table = table.astype({"x": np.float32, "z": np.float32})
        if wide:
            table[wide] = table[wide].astype(np.float64)
        assert matrix(fitted(table), table).dtype == dtype

    @pytest.mark.parametrize(
        "text, comma, value",
        [
            ("12", False, 12),
            (" -1,234,567.5 ", False, -1234567.5),
            ("1.234,5", True, 1234.5),
            ("0,5", True, 0.5),
            ("0,5", False, None),
            ("12 %", False, 0.12),
            ("€ 3.50", False, 3.5),
            ("\u22123", False, -3),
            ("1e-3", False, 1e-3),
            ("-inf", False, -np.inf),
            ("4 to 5", False, None),
            ("1,2,3", False, None),
            ("", False, None),
        ],
    )
    def test_written_by_people(self, text, comma, value):
        assert cells.parse_number(text, comma) == (None if value is None else pytest.approx(value, rel=1e-15))

    @given(st.floats(-1e12, 1e12), st.booleans())
    def test_grouped_thousands_read_back(self, value, comma):
        text = f"{value:,.3f}"
        text = text.translate(str.maketrans(",.", ".,")) if comma else text
        assert cells.parse_number(text, comma) == float(f"{value:.3f}")

    @pytest.mark.parametrize(
        "values, expected",
        [
            (["1,5", "2", None], [1.5, 2, np.nan]),
            (["?", "2.5", "N/A"], [np.nan, 2.5, np.nan]),
            ([1, "2", 3.5], [1, 2, 3.5]),
            ([Decimal("1.25"), None, 2], [1.25, np.nan, 2]),
            (["5%", "0.5", "20 %"], [0.05, 0.5, 0.2]),
        ],
    )
    def test_stored_as_strings(self, values, expected):
        column = pd.Series(values, dtype=object)
        kind = cells.kind_of(column)
        np.testing.assert_array_equal(cells.as_numbers(column, kind), expected)

    def test_codes_with_leading_zeros_are_categories(self):
        assert cells.kind_of(pd.Series(["01067", "10115"])) == "category"

    @pytest.mark.parametrize("bad", [np.inf, -np.inf, 1e200])
    def test_infinite_ones_are_named(self, bad):
        table = pd.DataFrame({"x": [1.0, 2.0, 3.0], "z": [1.0, bad, 2.0]})
        with pytest.raises(InputError, match=r"'z', row 2: .*finite"):
            make_pipeline(table, LogisticRegression())

    def test_complex_ones_are_refused(self):
        with pytest.raises(InputError, match="'x' holds complex"):
            make_pipeline(pd.DataFrame({"x": [1j, 2j]}), LogisticRegression())


class TestDates:
    @pytest.mark.parametrize(
        "values",
        [
            pd.to_datetime(["2020-01-01", "2020-01-02", None]),
            ["2020-01-01", "2020-01-02", None],
            [dt.date(2020, 1, 1), dt.date(2020, 1, 2), None],
            pd.Series([dt.date(2020, 1, 1), dt.date(2020, 1, 2), None], dtype=pd.ArrowDtype(pa.date32())),
            pd.to_datetime(["2020-01-01", "2020-01-02", None]).tz_localize("UTC"),
            ["2020-01-01T00:00:00Z", "2020-01-02 02:00+02:00", "n/a"],
        ],
    )
    def test_are_days(self, values):
        column = pd.Series(values)
        assert cells.kind_of(column) == "date"
        np.testing.assert_array_equal(cells.as_numbers(column, "date"), [18262, 18263, np.nan])

    @pytest.mark.skipif(pd.__version__ < "3", reason="pandas 2 counts nanoseconds, which end in 2262")
    def test_of_every_century(self):
        column = pd.Series([dt.date(1, 1, 1), dt.date(9999, 12, 31)])
        expected = [(d - dt.date(1970, 1, 1)).days for d in column]
        np.testing.assert_array_equal(cells.as_numbers(column, "date"), expected)

    def test_durations_are_days(self):
        column = pd.Series([dt.timedelta(hours=12), None])
        assert cells.kind_of(column) == "duration"
        np.testing.assert_array_equal(cells.as_numbers(column, "duration"), [0.5, np.nan])

    @pytest.mark.parametrize("bad", ["tomorrow", 5])
    def test_others_at_predict_time_are_named(self, bad):
        table = wild_table()
        model = fitted(table)
        with pytest.raises(InputError, match=rf"'joined', row 1: '{bad}' is no date"):
            model.predict(table.assign(joined=bad))


class TestCategories:
    def test_are_one_hot_with_missing_and_unseen(self):
        table = pd.DataFrame({"c": ["b", "a", None, "b", "a", None]})
        model = fitted(table)
        new = pd.DataFrame({"c": ["a", "b", np.nan, "new"]})
        np.testing.assert_array_equal(matrix(model, new), [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])

    def test_rare_and_unseen_ones_share_a_feature(self):
        table = pd.DataFrame({"c": ["a"] * 5 + ["b"] * 5 + ["c", "d"]})
        model = fitted(table)
        new = pd.DataFrame({"c": ["a", "b", "c", "d", "new"]})
        np.testing.assert_array_equal(
            matrix(model, new), [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]]
        )

    @pytest.mark.parametrize(
        "column, labels",
        [
            ([1, "1", 1.0, "x"], ["1", "1", "1", "x"]),
            ([True, False, None], ["True", "False", np.nan]),
            (pd.Categorical([3, 1, 3]), ["3", "1", "3"]),
            (pd.Series([True, None], dtype="boolean"), ["True", np.nan]),
        ],
    )
    def test_have_one_name_each(self, column, labels):
        column = pd.Series(column)
        assert cells.kind_of(column) == "category"
        assert [str(v) for v in cells.as_labels(column)] == [str(v) for v in labels]

    def test_many_are_cut(self):
        rng = np.random.default_rng(0)
        table = pd.DataFrame({"c": [f"c{i}" for i in rng.integers(0, 3000, 9000)]})
        assert matrix(fitted(table), table).shape[1] <= 1000

    def test_of_numbers_do_not_accept_words_silently(self):
        table = pd.DataFrame({"c": ["a", "b"] * 3})
        with pytest.raises(InputError, match="'c' holds numbers, but held names"):
            fitted(table).predict(pd.DataFrame({"c": [1.5, 2.5]}))

    def test_that_look_like_numbers_accept_numbers(self):
        table = pd.DataFrame({"c": ["1", "2", "x"] * 2})
        np.testing.assert_array_equal(
            matrix(fitted(table), pd.DataFrame({"c": [1, 2]})),
            matrix(fitted(table), pd.DataFrame({"c": ["1", "2"]})),
        )

    @pytest.mark.parametrize("cell", [[1, 2], {"a": 1}, b"x", np.zeros(2)])
    def test_cells_of_several_values_are_refused(self, cell):
        table = pd.DataFrame({"x": pd.Series(["a", cell, "b"], dtype=object)})
        with pytest.raises(InputError, match="'x', row 2 holds a value of type"):
            make_pipeline(table, LogisticRegression())


class TestText:
    def test_is_tfidf_weighted(self):
        texts = ["red red car", "blue car", "red bike is blue"]
        vocabulary = sorted({g for t in texts for g in _grams(t)})
        tf = np.array([[_grams(t).count(g) for g in vocabulary] for t in texts], dtype=float)
        weights = np.log((1 + 3) / (1 + (tf > 0).sum(axis=0))) + 1
        expected = np.where(tf > 0, 1 + np.log(np.maximum(tf, 1)), 0) * weights
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        table = pd.DataFrame({"t": texts})
        np.testing.assert_allclose(matrix(fitted(table, text="t"), table), expected, rtol=1e-13)

    def test_is_found(self):
        kinds = {column: kind for column, kind, _ in describe(fitted(wild_table()))}
        assert kinds["review"] == "text" and kinds["town"] == "category"

    def test_without_spaces_is_cut_into_characters(self):
        rng = np.random.default_rng(0)
        table = pd.DataFrame(
            {"t": ["".join(rng.choice(list("这部电影很好看我们喜欢"), 9)) for _ in range(30)]}
        )
        kind, what = done(fitted(table))["t"]
        assert kind == "text" and "characters, words and pairs" in what

    def test_of_mixed_scripts_keeps_words_whole(self):
        assert re.findall(cells.WORD_OR_CHARACTER, "PyTorch教程 is 好, a b_c é") == [
            "PyTorch",
            "教",
            "程",
            "is",
            "好",
            "b_c",
        ]

    def test_keeps_the_words_of_most_rows_and_then_the_first(self, monkeypatch):
        monkeypatch.setattr("luce.data.words.MAX_WORDS", 4)
        texts = ["bb cc dd", "bb dd ee", "dd ff", "zz ff bb"]
        table = pd.DataFrame({"t": texts})
        step = fitted(table, text="t")["encode"].named_transformers_["text"]
        assert step.get_feature_names_out().tolist() == ["bb", "bb cc", "dd", "ff"]

    def test_huge_is_hashed(self, monkeypatch):
        monkeypatch.setattr("luce.data.columns.HUGE_TEXT", 100)
        table = wild_table()[["review"]]
        model = fitted(table)
        assert "hashed" in done(model)["review"][1]
        assert model.predict(table).shape == (60,)

    def test_may_be_missing(self):
        table = wild_table()
        model = fitted(table)
        assert matrix(model, table.assign(review=None)).shape[0] == 60

    def test_unknown_column_is_named_with_the_nearest(self):
        with pytest.raises(InputError, match=r"no column 'reviews'; did you mean 'review'"):
            make_pipeline(wild_table(), LogisticRegression(), text="reviews")


def _grams(text):
    words = [w for w in text.split() if len(w) > 1]
    return words + [" ".join(pair) for pair in pairwise(words)]


class TestTables:
    def test_say_what_was_done(self):
        table = wild_table()
        mean, homeless = f"{table['age'].mean():.6g}", table["town"].isna().sum()
        grams = len({gram for text in table["review"] for gram in _grams(text)})
        assert [f"{c}: {k}: {w}" for c, k, w in describe(fitted(table))] == [
            "id: dropped: an ID: every row has its own number",
            f"age: number: standardised; 7 missing, set to the mean {mean} and flagged",
            f"town: category: one-hot, 4 categories; {homeless} missing, a category of their own",
            "member: category: one-hot, 2 categories",
            "price: decimal comma: decimal comma; standardised",
            "joined: date: days since 1970; standardised",
            f"review: text: TF-IDF of {grams} words and pairs",
            "empty: dropped: no values",
            "constant: dropped: one value throughout: 7",
            "token: dropped: an ID: nearly every row has its own value",
        ]

    def test_columns_in_other_order_and_others_beside(self):
        table = wild_table()
        model = fitted(table)
        shuffled = table[table.columns[::-1]].assign(more=1)
        np.testing.assert_array_equal(matrix(model, shuffled), matrix(model, table))

    def test_in_batches_equal_the_whole(self):
        table = wild_table()
        model = fitted(table)
        batches = np.vstack([matrix(model, table[i : i + 7]) for i in range(0, 60, 7)])
        np.testing.assert_array_equal(batches, matrix(model, table))

    def test_of_polars_and_pyarrow(self):
        table = wild_table().drop(columns="empty")
        model = fitted(table)
        for other in (pl.from_pandas(table), pa.Table.from_pandas(table)):
            np.testing.assert_array_equal(matrix(model, other), matrix(model, table))

    def test_of_nullable_dtypes(self):
        table = wild_table()
        model = fitted(table)
        np.testing.assert_array_equal(matrix(model, table.convert_dtypes()), matrix(model, table))

    def test_of_numbered_columns(self):
        table = pd.DataFrame(np.random.default_rng(0).normal(size=(9, 3)))
        assert [column for column, _, _ in describe(fitted(table))] == ["0", "1", "2"]

    def test_stay_sparse(self):
        assert sparse.issparse(fitted(wild_table())[:-1].transform(wild_table()))

    @pytest.mark.parametrize("name, dropped", [("row_id", True), ("year", False)])
    def test_ids_are_known_by_name(self, name, dropped):
        numbers = np.random.default_rng(0).permutation(10_000)[:100]
        table = pd.DataFrame({name: numbers, "x": np.arange(100.0)})
        assert (done(fitted(table))[name][0] == "dropped") is dropped

    def test_shuffled_row_counters_are_known(self):
        table = pd.DataFrame({"n": np.random.default_rng(0).permutation(100)[:75], "x": np.arange(75.0)})
        assert done(fitted(table))["n"] == (
            "dropped",
            "a row counter: every row has its own number, nearly without gaps",
        )

    @pytest.mark.parametrize(
        "change, message",
        [
            (lambda t: t.drop(columns="age"), "column 'age', which the model was fitted on, is missing"),
            (lambda t: t.rename(columns={"town": "twn"}), "'town'.* is missing; did you mean 'twn'"),
            (lambda t: t.assign(age="old"), "'age', row 1: 'old' is no number"),
            (lambda t: t.assign(review=1.5), "'review' holds numbers, but held text"),
            (lambda t: pd.concat([t, t[["age"]]], axis=1), "two columns are named 'age'"),
            (lambda t: t.to_numpy(), "a table with named columns is needed, not ndarray"),
        ],
    )
    def test_that_differ_at_predict_time_are_refused(self, change, message):
        model = fitted(wild_table())
        with pytest.raises(InputError, match=message):
            model.predict(change(wild_table()))

    @pytest.mark.parametrize(
        "table, message",
        [
            (pd.DataFrame({"x": []}), "0 rows and 1 columns"),
            (pd.DataFrame(index=range(3)), "3 rows and 0 columns"),
            (
                pd.DataFrame({"x": [1, 1], "z": [None, None]}),
                "no column is left .*'x': one value.*'z': no values",
            ),
            (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns are named 'a'"),
        ],
    )
    def test_without_content_are_refused(self, table, message):
        with pytest.raises(InputError, match=message):
            make_pipeline(table, LogisticRegression())

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_of_anything_fit_or_say_why(self, data):
        cell = st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=5),
            st.dates(),
            st.decimals(allow_nan=False),
            st.binary(),
        )
        columns = st.lists(st.lists(cell, min_size=6, max_size=6), min_size=1, max_size=3)
        table = pd.DataFrame({f"c{i}": pd.Series(v, dtype=object) for i, v in enumerate(data.draw(columns))})
        try:
            model = make_pipeline(table, LogisticRegression())
        except InputError:
            return
        Z = model[:-1].fit_transform(table)
        assert np.isfinite(Z.data if sparse.issparse(Z) else Z).all()


class TestMatrices:
    @pytest.mark.parametrize("kind", [np.asarray, np.asfortranarray, sparse.csr_array])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_are_used_as_given(self, kind, dtype):
        X = kind(np.random.default_rng(0).normal(size=(8, 3)).astype(dtype))
        model = fitted(X, np.arange(8) % 2)
        assert list(model.named_steps) == ["classifier"]
        assert describe(model) == [("3 columns", "matrix", "used as given")]

    def test_pixels_become_fractions(self):
        X = np.random.default_rng(0).integers(0, 256, (8, 4, 3), dtype=np.uint8)
        model = fitted(X)
        Z = matrix(model, X)
        assert Z.dtype == np.float32
        np.testing.assert_array_equal(Z, (X.reshape(8, 12) / 255).astype(np.float32))
        assert describe(model) == [("12 columns", "pixels", "images of 4 x 3, divided by 255")]
        np.testing.assert_array_equal(matrix(model, X.astype(np.int64)), Z)

    @pytest.mark.parametrize("X", [np.full((2, 4), 0.5), np.full((2, 4), 256), np.zeros((2, 5), np.uint8)])
    def test_other_pixels_are_refused(self, X):
        with pytest.raises(InputError, match=r"pixels are whole numbers|resize"):
            Pixels().fit(np.zeros((2, 4), np.uint8)).transform(X)

    @pytest.mark.parametrize(
        "X, text, message",
        [
            (np.zeros((2, 2), dtype=object), None, "matrix of object"),
            (np.zeros((2, 2), dtype=complex), None, "matrix of complex"),
            (np.zeros((2, 2, 2)), None, "reshape"),
            (np.zeros((2, 2)), "t", "no text column 't'"),
        ],
    )
    def test_that_cannot_be_fitted_are_refused(self, X, text, message):
        with pytest.raises(InputError, match=message):
            make_pipeline(X, LogisticRegression(), text=text)
