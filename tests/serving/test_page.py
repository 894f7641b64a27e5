import contextlib
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eurosat.labels import CLASSES
from tests.serving.conftest import Service, StartService

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
expect.set_options(timeout=30_000)  # ms, for machines that are busy

SETTLED = "[data-state=done], [data-state=refused]"
HOSTILE = "<img src=x onerror=alert(1)>.jpg"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium of this machine."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs the program chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    flags += ["--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A new tab, in which no script fails and no box pops up."""
    context = browser.new_context()
    tab = context.new_page()
    wrong: list[str] = []
    # Chromium writes a breach of the Content Security Policy to the console.
    tab.on("console", lambda said: "Policy" in said.text and wrong.append(said.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    yield tab
    context.close()
    assert wrong == []


def upload(name: str, data: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/jpeg", "buffer": data}


def choose(page: Any, *files: dict[str, Any]) -> Any:
    """Choose files and give their cards when all have an answer."""
    page.set_input_files("#files", list(files))
    cards = page.locator("#results > article")
    expect(cards).to_have_count(len(files))
    expect(page.locator("#results").locator(SETTLED)).to_have_count(len(files))
    return cards


def opaque_pixels(canvas: Any) -> int:
    """Pixels of a canvas with anything drawn on them."""
    count: int = canvas.evaluate(
        """canvas => canvas.getContext("2d")
             .getImageData(0, 0, canvas.width, canvas.height).data
             .filter((value, at) => at % 4 === 3 && value > 0).length"""
    )
    return count


def test_a_picture_gets_its_class_and_where_the_model_looked(
    page: Any, service: Service, pictures: dict[str, bytes]
) -> None:
    page.goto(service.url)
    answer = service.predict(pictures["Forest.jpg"]).json()
    card = choose(page, upload("Forest.jpg", pictures["Forest.jpg"])).first
    words = re.sub("(?<=[a-z])(?=[A-Z])", " ", answer["label"]).capitalize()
    assert card.locator(".class").inner_text() == words
    assert card.locator(".file").inner_text() == "Forest.jpg"
    assert answer["model_version"] in card.locator(".origin").inner_text()

    shares = [float(re.sub("[^0-9.]", "", t)) for t in card.locator("td").all_inner_texts() if t]
    assert len(shares) == len(CLASSES)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == pytest.approx(100 * max(answer["probabilities"].values()), abs=0.06)
    expect(card.locator(".doubt")).to_be_visible(visible=shares[0] < 50)

    canvas = card.locator("canvas")
    assert opaque_pixels(canvas) > 10_000
    assert "hiding" in card.locator(".legend").inner_text()
    assert card.locator("img").evaluate("image => image.naturalWidth") == 64
    card.get_by_label("Saliency map").uncheck()
    expect(canvas).to_be_hidden()
    expect(card.locator(".legend")).to_be_hidden()
    card.get_by_label("Saliency map").check()
    expect(canvas).to_be_visible()


def test_the_header_names_the_model_and_its_data(page: Any, service: Service) -> None:
    page.goto(service.url)
    card = service.get("/info").json()["model"]
    expect(page.locator("#model")).to_contain_text(card["version"])
    expect(page.locator("#model")).to_contain_text(f"{100 * card['metrics']['accuracy']:.1f} %")
    assert card["synthetic"] is True
    expect(page.get_by_text("trained on synthetic patches")).to_be_visible()


def test_several_pictures_and_one_that_is_none(
    page: Any, service: Service, pictures: dict[str, bytes]
) -> None:
    page.goto(service.url)
    files = [upload(name, pictures[name]) for name in ("River.jpg", "Forest.jpg", "Highway.jpg")]
    files.insert(1, upload("notes.jpg", b"no picture"))
    cards = choose(page, *files)
    assert [card.locator(".file").inner_text() for card in cards.all()] == [
        file["name"] for file in files
    ]
    states = cards.evaluate_all("cards => cards.map(card => card.dataset.state)")
    assert states == ["done", "refused", "done", "done"]
    expect(cards.nth(1)).to_contain_text("the file is not a JPEG, PNG or TIFF image")
    expect(page.locator("#progress")).to_have_text("4 of 4 ready")
    page.get_by_role("button", name="Clear").click()
    expect(cards).to_have_count(0)


def test_pictures_are_dropped_anywhere(
    page: Any, service: Service, pictures: dict[str, bytes]
) -> None:
    page.goto(service.url)
    transfer = page.evaluate_handle(
        """bytes => {
             const transfer = new DataTransfer();
             transfer.items.add(new File([new Uint8Array(bytes)], "dropped.jpg"));
             return transfer;
           }""",
        list(pictures["River.jpg"]),
    )
    page.dispatch_event("footer", "drop", {"dataTransfer": transfer})
    expect(page.locator("article[data-state=done]")).to_contain_text("dropped.jpg")


def test_a_file_name_is_never_markup(page: Any, service: Service) -> None:
    page.goto(service.url)
    card = choose(page, upload(HOSTILE, b"no picture")).first
    assert card.locator(".file").inner_text() == HOSTILE
    assert HOSTILE in card.locator(".note").inner_text()
    expect(page.locator("img[onerror]")).to_have_count(0)


def test_bands_are_shown_as_the_model_saw_them(
    page: Any, service: Service, multispectral: bytes
) -> None:
    page.goto(service.url)
    card = choose(page, upload("bands.tif", multispectral)).first
    assert card.get_attribute("data-state") == "done"
    assert card.locator("img").evaluate("image => image.naturalWidth") == 64


def test_examples_are_a_click_away(
    page: Any, start_service: StartService, pictures: dict[str, bytes], tmp_path: Path
) -> None:
    for name in ("River.jpg", "Sea & 100%.jpg"):
        (tmp_path / name).write_bytes(pictures["River.jpg"])
    page.goto(start_service(f"--examples={tmp_path}").url)
    page.get_by_role("button", name="Classify Sea & 100%.jpg").click()
    expect(page.locator("article[data-state=done] .file")).to_have_text("Sea & 100%.jpg")


def test_examples_that_came_with_the_model_are_classified(page: Any, service: Service) -> None:
    names = service.get("/examples").json()
    assert len(names) == len(CLASSES)
    page.goto(service.url)
    page.get_by_role("button", name=f"Classify {names[0]}").click()
    expect(page.locator("article[data-state=done] .file")).to_have_text(names[0])


def test_without_examples_it_says_how_to_add_some(
    page: Any, start_service: StartService, tmp_path: Path
) -> None:
    page.goto(start_service(f"--examples={tmp_path}").url)
    expect(page.get_by_text("--examples FOLDER")).to_be_visible()


def test_a_key_is_asked_for_and_used(
    page: Any, start_service: StartService, pictures: dict[str, bytes]
) -> None:
    page.goto(start_service(env={"EUROSAT_API_KEY": "open-sesame"}).url)
    field = page.get_by_label("This service asks for an API key")
    expect(field).to_be_focused()
    page.set_input_files("#files", [upload("River.jpg", pictures["River.jpg"])])
    card = page.locator("article")
    expect(card).to_have_attribute("data-state", "key")
    expect(card).to_contain_text("API key needed")

    field.fill("wrong")
    field.press("Enter")
    expect(page.get_by_text("The key was not accepted")).to_be_visible()
    expect(card).to_have_attribute("data-state", "key")

    field.fill("open-sesame")
    field.press("Enter")
    expect(card).to_have_attribute("data-state", "done")
    expect(field).to_be_hidden()
    expect(page.locator("#model")).to_contain_text("Test accuracy")


def test_a_service_that_has_gone_is_named_and_asked_again(
    page: Any, start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service()
    page.goto(service.url)
    expect(page.locator("#model")).to_contain_text("Test accuracy")
    service.stop()
    page.set_input_files("#files", [upload("River.jpg", pictures["River.jpg"])])
    card = page.locator("article")
    expect(card).to_contain_text("The service cannot be reached")
    card.get_by_role("button", name="Try again").click()
    expect(card).to_contain_text("The service cannot be reached")
    # Another one takes its place, as far as the page can tell.
    other = start_service()
    page.route("**/explain", lambda route: route.continue_(url=f"{other.url}/explain"))
    card.get_by_role("button", name="Try again").click()
    expect(card).to_have_attribute("data-state", "done")


def test_a_busy_service_is_waited_for(
    page: Any, start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service("--max_in_flight=1")
    page.goto(service.url)
    expect(page.locator("#model")).to_contain_text("Test accuracy")
    (worker,) = service.workers()
    os.kill(worker, signal.SIGSTOP)
    waiting = threading.Thread(target=service.predict, args=[pictures["Forest.jpg"]])
    waiting.start()
    try:
        service.wait_in_flight(1)  # the request takes the only place
        page.set_input_files("#files", [upload("River.jpg", pictures["River.jpg"])])
        expect(page.locator("article")).to_contain_text(
            "The service is busy. The page tries again in 1 s"
        )
    finally:
        with contextlib.suppress(ProcessLookupError):  # a hung worker is replaced after 4 s
            os.kill(worker, signal.SIGCONT)
        waiting.join()
    expect(page.locator("article")).to_have_attribute("data-state", "done")


def test_no_more_than_two_requests_at_once(
    page: Any, service: Service, pictures: dict[str, bytes]
) -> None:
    held: list[Any] = []
    opened = False
    page.route("**/explain", lambda route: route.continue_() if opened else held.append(route))
    page.goto(service.url)
    page.set_input_files("#files", [upload(name, data) for name, data in pictures.items()])
    expect(page.locator("article[data-state=waiting]")).to_have_count(8)
    page.wait_for_timeout(300)
    assert len(held) == 2
    opened = True
    for route in held:
        route.continue_()
    expect(page.locator("article[data-state=done]")).to_have_count(10)


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_sticks_out_of_a_narrow_window(
    width: int, page: Any, service: Service, pictures: dict[str, bytes]
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(service.url)
    choose(page, upload("a" * 120 + ".jpg", pictures["HerbaceousVegetation.jpg"]))
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_nothing_comes_from_elsewhere(
    page: Any, service: Service, pictures: dict[str, bytes]
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(service.url)
    choose(page, upload("River.jpg", pictures["River.jpg"]))
    assert len(asked) > 5
    assert [u for u in asked if not u.startswith((service.url, "blob:", "data:"))] == []


def test_it_works_with_the_keyboard_alone(
    page: Any, start_service: StartService, pictures: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "River.jpg").write_bytes(pictures["River.jpg"])
    page.goto(start_service(f"--examples={tmp_path}").url)
    expect(page.locator("#examples button")).to_have_count(1)
    page.keyboard.press("Tab")
    expect(page.locator("#files")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("article")).to_have_attribute("data-state", "done")
    assert "River.jpg" in page.locator("[aria-live]").inner_text()


def test_a_script_that_is_written_into_a_page_does_not_run(browser: Any, service: Service) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        for path in ("/", "/docs"):
            page.goto(f"{service.url}{path}")
            page.evaluate(
                """() => {
                  const script = document.createElement("script");
                  script.textContent = "window.ran = true";
                  document.body.append(script);
                }"""
            )
            assert page.evaluate("window.ran") is None


def test_the_documentation_has_a_form_that_works(
    page: Any, service: Service, tmp_path: Path, pictures: dict[str, bytes]
) -> None:
    (tmp_path / "a.jpg").write_bytes(pictures["River.jpg"])
    page.goto(f"{service.url}/docs")
    operation = page.locator(".opblock-post", has_text="Classify images").first
    operation.click()
    operation.get_by_role("button", name="Try it out").click()
    operation.locator("input[type=file]").set_input_files(tmp_path / "a.jpg")
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table")
    expect(answer).to_contain_text(service.predict(pictures["River.jpg"]).json()["label"])
    expect(answer).to_contain_text("200")
