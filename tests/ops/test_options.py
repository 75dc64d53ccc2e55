"""``silly.ops.options``: the command line and the environment."""

from __future__ import annotations

import pytest

from silly.ops.options import BadOption, Options, arguments, check, knows, take, take_environment


def parse(line: str, **environ: str) -> Options:
    args, options = line.split(), Options()
    while args:
        assert knows(args[0])
        take(args.pop(0), args, options)
    take_environment(options, environ)
    check(options)
    return options


@pytest.mark.parametrize(
    ("text", "ms"), [("0", 0), ("15", 15), ("15ms", 15), ("30s", 30_000), ("15m", 900_000), ("12h", 43_200_000)]
)
def test_times(text: str, ms: int) -> None:
    assert parse(f"--notice {text}").notice == parse(f"--notice={text}").notice == ms


@pytest.mark.parametrize("text", ["", "-1", "1 s", "s", "1sm", "1d", "1.5s", "1_0", "²", "9" * 16])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(BadOption, match="--notice needs milliseconds"):
        take("--notice", [text], Options())


@pytest.mark.parametrize("text", ["10001h", "999999999999999h", "999999999999999"])
def test_a_time_that_no_clock_of_the_system_takes(text: str) -> None:
    with pytest.raises(BadOption, match=f"^--drain is at most 10000h, not '{text}'$"):
        take("--drain", [text], Options())


@pytest.mark.parametrize("option", ["--log-path", "--pid-file", "--env-file"])
def test_an_option_is_no_path(option: str) -> None:
    with pytest.raises(BadOption, match=f"^{option} needs the path of a file, not '--daemon'$"):
        take(option, ["--daemon", "app.py"], Options())
    options = Options()
    take("--log-path", ["./--daemon"], options)
    assert options.log_path == "./--daemon"


@pytest.mark.parametrize(("text", "size"), [("4096", 4096), ("2K", 2048), ("512M", 512 * 2**20), ("2G", 2**31)])
def test_sizes(text: str, size: int) -> None:
    assert parse(f"--workers 1 --max-rss {text}").max_rss == size


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--workers 0", "--workers needs a whole number from 1 on, not '0'"),
        (f"--workers {'9' * 5000}", "--workers needs a whole number from 1 on"),
        ("--workers 1 --max-rss 5X", "--max-rss needs bytes, or a size such as 512M or 2G, not '5X'"),
        ("--max-rss 1G", "--max-rss is for workers: write --workers N too; --workers 1 will do"),
        ("--workers 2 --daemon", "--daemon with --workers needs --log-path FILE"),
        ("--workers 2 --reload", "--reload is for development, in one process: leave out --workers"),
        ("--daemon --reload", "--reload is for development, in a terminal: leave out --daemon"),
        ("--drain 1s --spread 2s", "--spread 2000 is more than --drain 1000"),
        ("--reload=1", "--reload takes no value"),
    ],
)
def test_options_that_can_not_be(line: str, words: str) -> None:
    with pytest.raises(BadOption) as caught:
        parse(line)
    assert str(caught.value).startswith(words)


def test_the_command_line_goes_before_the_environment() -> None:
    variables = {"SILLY_WORKERS": "4", "SILLY_LOG_LEVEL": "error", "SILLY_DRAIN": "5s", "SILLY_DAEMON": "yes"}
    options = parse("--workers 2 -l warn --log-path x", **variables)
    assert (options.workers, options.level, options.drain, options.daemon) == (2, "warn", 5000, True)


def test_the_first_environment_goes_before_the_second() -> None:
    options = Options()
    take_environment(options, {"SILLY_DRAIN": "5s", "SILLY_RELOAD": "0", "SILLY_NOTICE": ""})
    take_environment(options, {"SILLY_DRAIN": "6s", "SILLY_RELOAD": "1", "SILLY_NOTICE": "7s"})
    assert (options.drain, options.reload, options.notice) == (5000, False, 7000)


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("SILLY_WORKERS", "many", "SILLY_WORKERS needs a whole number from 1 on, not 'many'"),
        ("SILLY_LOG_LEVEL", "INFO", "SILLY_LOG_LEVEL needs a level: debug, info, warn, error"),
        ("SILLY_RELOAD", "maybe", "SILLY_RELOAD says whether --reload is given: 1 or 0, not 'maybe'"),
    ],
)
def test_bad_variables(variable: str, text: str, words: str) -> None:
    with pytest.raises(BadOption) as caught:
        take_environment(Options(), {variable: text})
    assert str(caught.value) == words


def test_another_process_gets_the_same_whatever_its_environment_says() -> None:
    line = "-l debug --workers 3 --max-age 1h --daemon --env-file a --env-file b --log-path x"
    options = parse(line)
    again = parse(" ".join(arguments(options)), SILLY_WORKERS="9", SILLY_RELOAD="1", SILLY_ENV_FILE="c")
    again.given = options.given
    again.no_environment = False
    assert again == options
    assert parse(" ".join(arguments(Options())), SILLY_WORKERS="9").workers == 0
