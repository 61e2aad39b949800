"""The page: what it says, that nothing in the data can run in it, and how it behaves in a browser."""

import base64
import hashlib
import json
import re
import shutil
import sys
import time
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import sparse
from sklearn.datasets import load_digits, load_iris
from sklearn.pipeline import make_pipeline as pipeline_of
from sklearn.preprocessing import StandardScaler

import luce
from luce import model_file
from luce.cli import main
from luce.data.columns import make_pipeline
from luce.errors import InputError
from luce.report import write
from luce.report.figures import table_of

RNG = np.random.default_rng(0)
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
HOSTILE = [
    "<script>window.owned = 1</script>",
    '"><img src=x onerror="window.owned = 2">',
    "</style></svg><script>window.owned = 3</script>",
    "--><iframe src=https://example.com></iframe>",
    "$x^2$ {{ 7 * 7 }} 标签",
]


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result


class Page(HTMLParser):
    """The text of a page, its tags, and the cells of its tables."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.words, self._hidden = [], [], [], 0
        self.feed(source)
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *a) for a in attributes]
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._hidden:
            self.words.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def digits(folder):
    """Return a model of the digits and its page, as the command line makes them."""
    model, page = folder / "digits.luce", folder / "digits.html"
    run("fit", "digits", "-o", model, "--report", page, "--quiet", "--tol", "1e-3")
    return model, page


@pytest.fixture(scope="module")
def hostile(folder):
    """Return the page of data whose classes, columns and cells would all like to run."""
    n = 150
    label = RNG.integers(0, len(HOSTILE), n)
    table = pd.DataFrame({name: RNG.normal(size=n) for name in HOSTILE[:3]})
    table[HOSTILE[0]] += label
    table[HOSTILE[3]] = np.array(HOSTILE)[RNG.integers(0, len(HOSTILE), n)]
    table["text"] = [f"{HOSTILE[i % 5]} some words {i} after it & more <b>of</b> them" for i in range(n)]
    table["label"] = np.array(HOSTILE)[label]
    table.to_csv(folder / "hostile.csv", index=False)
    page = folder / "hostile.html"
    run("fit", folder / "hostile.csv", "--target", "label", "--report", page, "--quiet")
    return page


def test_the_page_says_what_was_measured(digits):
    model, path = digits
    page = Page(path.read_text())
    held_out = model_file.read_metadata(model)["metadata"]["held_out"]
    right = sum(held_out["confusion"][i][i] for i in range(10))
    assert f"right on {right} of {held_out['rows']} rows" in page.text
    assert f"{held_out['log_loss']:.3f}" in page.text and f"{held_out['macro_f1']:.3f}" in page.text
    assert "stratified by class (seed 0)" in page.text
    assert "luce fit digits --tol 0.001" in page.text
    for c in held_out["classes"]:
        assert f"{c['precision']:.3f}" in page.text and f"{c['recall']:.3f}" in page.text
    for heading in (
        "Each class",
        "What is taken for what",
        "Surest mistakes",
        "Can its probabilities be believed?",
        "What it looks for",
        "How the fit came to its end",
        "The data",
        "To get the same again",
    ):
        assert heading in page.text
    # counts, percent, reliability, scores, templates, passes, seconds
    assert page.tags.count("svg") == 7
    assert page.tags.count("article") == held_out["rows"] - right


def test_mistakes_name_their_rows(digits):
    labels = load_digits().target
    page = Page(digits[1].read_text())
    told = re.findall(r"said\s*(\d)\s*\d+%\s*label\s*(\d)\s*<?\d+%\s*row ([\d,]+)", page.text)
    assert len(told) == page.tags.count("article")
    for said, label, row in told:
        assert labels[int(row.replace(",", "")) - 1] == int(label) != int(said)


def test_report_measures_the_rows_that_were_held_out(digits, folder):
    model, path = digits
    again = folder / "again.html"
    result = run("report", model, "digits", "-o", again)
    assert "again.html" in result.stderr and result.stdout == ""
    figures = [re.search(r"right on [\d,]+ of [\d,]+ rows", p.read_text())[0] for p in (path, again)]
    assert figures[0] == figures[1]


def test_report_says_when_the_rows_were_fitted(folder):
    model = folder / "all.luce"
    run("fit", "iris", "--test-size", "0", "-o", model, "--quiet")
    page = run("report", model, "iris", "-o", "-").stdout
    assert "rows that the model was fitted on" in page
    iris = load_iris(as_frame=True)
    other = iris.data.assign(target=iris.target_names[iris.target])[::2]
    other.loc[0, "target"] = "daisy"
    other.to_csv(folder / "other.csv", index=False)
    page = run("report", model, folder / "other.csv", "-o", "-").stdout
    assert "not the data that the model was fitted on" in page
    assert "1 row with a label that the model does not know" in page


def test_fit_reports_on_a_file_to_validate_with(folder):
    iris = load_iris(as_frame=True)
    table = iris.data.assign(label=iris.target_names[iris.target])
    table[::2].to_csv(folder / "a.csv", index=False)
    table[1::2].to_csv(folder / "b.csv", index=False)
    page = folder / "valid.html"
    run("fit", folder / "a.csv", "--valid", folder / "b.csv", "--report", page, "--quiet")
    assert "75 rows of" in page.read_text() and "b.csv" in page.read_text()


def test_a_stream_is_not_split_again(folder):
    """What a stream held out is not what the same seed draws from the rows in memory."""
    iris = load_iris(as_frame=True)
    iris.data.assign(label=iris.target).sample(frac=1, random_state=0).to_csv(folder / "s.csv", index=False)
    model = folder / "stream.luce"
    run("fit", folder / "s.csv", "--stream", "-o", model, "--quiet")
    page = run("report", model, folder / "s.csv", "-o", "-").stdout
    assert "of 150 rows" in page and "all or most of them" in page


@pytest.mark.parametrize("part", ["columns", "history", "model", "held_out"])
def test_a_model_file_with_foreign_notes_is_refused(digits, tmp_path, part):
    header = model_file.read_metadata(digits[0])["metadata"]
    header[part] = [{"name": 7}] if part == "columns" else "nonsense"
    model_file.save(luce.load(digits[0]), tmp_path / "m.luce", metadata=header)
    assert "fit again" in run("report", tmp_path / "m.luce", "digits", "-o", "-", code=3).stderr


def test_the_same_command_writes_the_same_page(digits, folder):
    model, _ = digits
    pages = [run("report", model, "digits", "-o", "-").stdout for _ in range(2)]
    assert pages[0] == pages[1]


def test_outputs_that_cannot_be_written_are_refused_first(digits, folder):
    model, _ = digits
    result = run("report", model, "digits", "-o", folder / "no" / "page.html", code=1)
    assert "there is no folder" in result.stderr
    result = run("fit", "iris", "--report", folder, code=1)
    assert "is a folder" in result.stderr


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    X, y = load_iris(return_X_y=True)
    model = luce.SoftmaxClassifier().fit(X, y)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(luce.errors.MissingExtraError, match=r"luce\[report\]"):
        write(model, X, y, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_write_shows_the_choice_of_C(tmp_path):
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = pipeline_of(StandardScaler(), luce.SoftmaxClassifierCV([0.1, 1, 10])).fit(X, y)
    write(model, X, y, tmp_path / "page.html", name="flowers", unseen=False)
    page = Page((tmp_path / "page.html").read_text())
    assert "Choice of C" in page.text and f"Chosen: C = {model[-1].C_:.4g}" in page.text
    assert "rows that the model was fitted on" in page.text and "flowers" in page.text
    path = luce.softmax_path(X.to_numpy(), y.to_numpy(), [0.1, 1])
    write(luce.SoftmaxClassifier().fit(X, y), X, y, tmp_path / "page.html", along_C=path)
    assert "Choice of C" in (tmp_path / "page.html").read_text()


def test_write_takes_sparse_rows_and_float_images(tmp_path):
    X, y = load_digits(return_X_y=True)
    two = y < 2
    X, y = X[two], y[two]
    model = luce.SoftmaxClassifier().fit(X, y)
    write(model, X, y, tmp_path / "images.html", image_shape=(8, 8))
    page = Page((tmp_path / "images.html").read_text())
    assert "grey images of 8 × 8 pixels" in page.text and "is not known here" in page.text
    assert "No mistake on these rows." in page.text
    write(model, sparse.csr_array(X), y, tmp_path / "sparse.html", unseen=True)
    assert "weight of one standard deviation" in (tmp_path / "sparse.html").read_text()


def test_write_takes_tables_with_every_kind_of_missing_cell(tmp_path):
    n = 60
    label = np.arange(n) % 2
    table = pd.DataFrame(
        {
            "count": pd.array([None if i % 7 == 0 else i % 5 for i in range(n)], dtype="Int64"),
            "day": pd.to_datetime(["2024-01-01", None, "2024-02-01"] * 20),
            "name": pd.Series(["x", None, "y", "z"] * 15, dtype="string"),
        }
    )
    model = make_pipeline(table, luce.SoftmaxClassifier()).fit(table, label)
    write(model, table, 1 - label, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text())
    assert page.tags.count("article") and "missing" in page.text and "Not shown to be better" in page.text


def test_write_refuses_what_does_not_fit(tmp_path):
    X, y = load_iris(return_X_y=True)
    model = luce.SoftmaxClassifier().fit(X, y)
    for arguments, message in (
        ((X, y[:-1]), "a label for each row"),
        ((X[:0], y[:0]), "a label for each row"),
        ((X[:, :3], y), "3 features"),
    ):
        with pytest.raises(ValueError, match=message):
            write(model, *arguments, tmp_path / "page.html")
    with pytest.raises(InputError, match=r"no images of shape \(3, 3\)"):
        write(model, X, y, tmp_path / "page.html", image_shape=(3, 3))
    with pytest.raises(InputError, match="no label is one of"):
        write(model, X, np.full(len(y), "unknown"), tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_many_classes_stay_small(tmp_path):
    C, n = 500, 4000
    model = luce.SoftmaxClassifier()
    model.classes_, model.n_features_in_ = np.arange(C), 30
    model.coef_ = RNG.normal(size=(C, 30))
    model.intercept_ = -(model.coef_**2).sum(axis=1) / 2  # the nearest row of coefficients wins
    y = np.r_[np.arange(C), RNG.integers(0, C, n - C)]
    X = model.coef_[y] + 0.7 * RNG.normal(size=(n, 30))
    write(model, X, y, tmp_path / "page.html")
    source = (tmp_path / "page.html").read_text()
    assert len(source) < 1_000_000
    page = Page(source)
    assert "Most frequent confusions" in page.text and "485 more classes" in page.text


def test_nothing_of_the_data_becomes_markup(hostile):
    source = hostile.read_text()
    page = Page(source)
    assert page.tags.count("script") == 1 and "iframe" not in page.tags and "img" not in page.tags
    assert not [a for a in page.attributes if a[1].startswith("on") or a[1] == "src"]
    for name in HOSTILE[:3]:
        assert name[:20] in page.text
    script = re.search(r"<script>(.*?)</script>", source, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in source and "default-src &#39;none&#39;" in source


# In a browser.


@pytest.fixture(scope="module")
def browser():
    if not (CHROMIUM and DRIVER):
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER)) as driver:
        yield driver


@pytest.fixture
def opened(browser):
    """Return a function that opens a page, of a width and in a colour scheme."""

    def open_page(path, width=1200, scheme="light"):
        for log in ("browser", "performance"):
            browser.get_log(log)
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.get(path.as_uri())
        return browser

    return open_page


def requests_of(browser):
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


@pytest.mark.parametrize("name", ["digits", "hostile"])
def test_no_request_leaves_and_no_error_is_logged(opened, name, digits, hostile):
    path = {"digits": digits[1], "hostile": hostile}[name]
    browser = opened(path)
    time.sleep(0.2)
    assert browser.get_log("browser") == []
    urls = requests_of(browser)
    assert path.as_uri() in urls
    assert [u for u in urls if not u.startswith((path.as_uri(), "data:"))] == []
    assert browser.execute_script("return [window.owned === undefined, document.scripts.length]") == [True, 1]
    assert browser.title.endswith("softmax classifier")


def test_the_policy_stops_a_script_that_slipped_in(opened, digits, folder):
    source = digits[1].read_text().replace("</main>", "</main><script>window.owned = 4</script>")
    (folder / "slipped.html").write_text(source)
    browser = opened(folder / "slipped.html")
    assert browser.execute_script("return window.owned === undefined")
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_classes_are_sorted_by_mouse_and_by_keyboard(opened, digits):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser = opened(digits[1])
    headings = browser.find_elements(By.CSS_SELECTOR, "table.sortable thead th")

    def column(k):
        cells = browser.find_elements(By.CSS_SELECTOR, f"table.sortable tbody tr > :nth-child({k + 1})")
        return [float(cell.text) for cell in cells]

    recall = column(2)
    headings[2].find_element(By.TAG_NAME, "button").click()
    assert column(2) == sorted(recall) != recall and headings[2].get_attribute("aria-sort") == "ascending"
    headings[2].find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert column(2) == sorted(recall, reverse=True)
    assert headings[2].get_attribute("aria-sort") == "descending"
    headings[0].find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    assert column(0) == list(range(10)) and headings[2].get_attribute("aria-sort") is None


def test_counts_and_percent_take_turns(opened, digits):
    from selenium.webdriver.common.by import By

    browser = opened(digits[1])
    counts, percent = (browser.find_element(By.CSS_SELECTOR, f"div.{n}") for n in ("counts", "percent"))
    assert counts.is_displayed() and not percent.is_displayed()
    browser.find_element(By.CSS_SELECTOR, "label[for=percent]").click()
    assert percent.is_displayed() and not counts.is_displayed()


@pytest.mark.parametrize("name", ["digits", "hostile"])
def test_a_phone_need_not_scroll_sideways(opened, name, digits, hostile):
    browser = opened({"digits": digits[1], "hostile": hostile}[name], width=360)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 360
    browser.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    assert browser.execute_script("return document.documentElement.scrollWidth") == 360


def test_dark_and_light_are_both_legible(opened, digits):
    """Text of the page and of its figures has a contrast of 4.5 to 1 (WCAG AA) against its ground."""
    script = """
        const of = (node, what) => getComputedStyle(node)[what].match(/[\\d.]+/g).slice(0, 3).map(Number);
        const colour = (node) => of(node, node.closest("svg") ? "fill" : "color");
        const nodes = arguments[0].map((selector) => document.querySelector(selector));
        return [of(document.body, "backgroundColor"), ...nodes.map(colour)];
    """
    nodes = ["p", ".note", "th", ".tile .name", "nav a", ".wrong", "svg text", "svg text[style*=wrong]"]

    def luminance(colour):
        c = np.asarray(colour) / 255
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    grounds = []
    for scheme in ("light", "dark"):
        ground, *texts = (
            luminance(c) for c in opened(digits[1], scheme=scheme).execute_script(script, nodes)
        )
        grounds.append(ground)
        for text in texts:
            assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) >= 4.5
    assert grounds[0] > 0.9 and grounds[1] < 0.05


def test_tables_align_their_decimals():
    frame = pd.DataFrame(
        {
            "name": ["a", "b\n"],
            "n": [1, 2000],
            "weight": [0.25, -1.5],
            "gap": [1.0, 1e-7],
            "C": [np.inf, np.nan],
            "certified": [True, False],
        }
    )
    table = table_of(frame)
    assert table.rows == [
        ["a", "1", "0.250", "1", "∞", "yes"],
        ["b\\n", "2,000", "-1.500", "1e-07", "", ""],
    ]
    assert [number for _, number in table.columns] == [False, True, True, True, True, True] and not table.note
    long = table_of(pd.DataFrame({"x": np.arange(20_000)}))
    assert len(long.rows) == 12_000 and "first 12,000 of 20,000" in long.note


def test_mistakes_of_a_folder_of_images_name_their_files(tmp_path):
    from PIL import Image

    X, y = load_digits(return_X_y=True)
    for i, (pixels, label) in enumerate(zip(X[:300], y[:300], strict=True)):
        (tmp_path / "d" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype(np.uint8).reshape(8, 8)).save(
            tmp_path / "d" / f"{label}/x{i}.png"
        )
    page = tmp_path / "page.html"
    run("fit", tmp_path / "d", "-o", tmp_path / "m.luce", "--report", page, "--quiet")
    model = luce.load(tmp_path / "m.luce")
    named = re.findall(r"\d/x(\d+)\.png", page.read_text())
    assert named
    for i in map(int, named):  # each of them is one that the model gets wrong
        pixels = np.floor(X[i] * 15).astype(np.uint8).reshape(1, -1)
        assert str(model.predict(pixels)[0]) != str(y[i])


def test_a_few_rows_prove_no_calibration(tmp_path):
    rows = pd.DataFrame({"a": np.arange(10.0), "label": ["x"] * 5 + ["y"] * 5})
    rows.to_csv(tmp_path / "tiny.csv", index=False)
    run("fit", tmp_path / "tiny.csv", "-o", tmp_path / "m.luce", "--report", tmp_path / "p.html", "--quiet")
    text = Page((tmp_path / "p.html").read_text()).text
    assert "too few to tell" in text
    assert "taken at their word" not in text


def test_joined_characters_stay_joined():
    from luce.plot._canvas import short

    assert short("👩\u200d🚀 می\u200cخواهم") == "👩\u200d🚀 می\u200cخواهم"
    assert short("a\u202eb") == "a\\u202eb"
