"""The five sources, their order, and what is refused."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompute.errors import ConfigError
from qcompute.miner.settings import LogLevel
from qcompute.miner.settings_cli import report
from qcompute.miner.settings_load import Loaded, load_from
from qcompute.miner.settings_sources import Kin

REQUIRED = {"JOB_SERVER_URL": "https://jobs.example", "TENSORAUTH_URL": "https://auth.example"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def load(folder: Path, *arguments: str, **environ: str) -> Loaded:
    return load_from(arguments, REQUIRED | environ, folder)


def problems(folder: Path, *arguments: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, *arguments, **environ)
    return caught.value.message.splitlines()


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(textwrap.dedent(text))
    return file


def test_without_any_source_but_the_required_values_everything_is_default(folder: Path) -> None:
    settings = load(folder).settings
    assert settings.netuid == 48
    assert settings.provider == "aer"
    assert settings.axon.port == 8091
    assert settings.blacklist.force_validator_permit is True
    assert settings.logging.level is LogLevel.INFO


def test_each_source_is_stronger_than_the_one_before(folder: Path) -> None:
    config = write(folder, "miner.toml", "[miner]\nmax_inflight = 1\n")
    arguments = ["--config", str(config)]
    assert load(folder, *arguments).settings.miner.max_inflight == 1

    write(folder, ".env", "MINER_MAX_INFLIGHT=2\n")
    assert load(folder, *arguments).settings.miner.max_inflight == 2

    environ = {"MINER_MAX_INFLIGHT": "3"}
    assert load(folder, *arguments, **environ).settings.miner.max_inflight == 3

    write(folder, ".env", "MINER_MAX_INFLIGHT=2\nQCOMPUTE_MINER__MAX_INFLIGHT=4\n")
    assert load(folder, *arguments, **environ).settings.miner.max_inflight == 4

    environ["QCOMPUTE_MINER__MAX_INFLIGHT"] = "5"
    assert load(folder, *arguments, **environ).settings.miner.max_inflight == 5

    arguments += ["--miner.max_inflight", "6"]
    loaded = load(folder, *arguments, **environ)
    assert loaded.settings.miner.max_inflight == 6
    assert str(loaded.origins["miner", "max_inflight"]) == "flag --miner.max_inflight"


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("JOB_SERVER_URL", "https://other.example", ("jobserver", "url")),
        ("TENSORAUTH_URL", "https://other.example", ("jobserver", "tensorauth_url")),
        ("API_VERSION", "7", ("jobserver", "api_version")),
        ("METRICS_API_URL", "https://other.example", ("jobserver", "metrics_api_url")),
        ("PROVIDER", "mock", ("provider",)),
        ("MINER_MAX_INFLIGHT", "7", ("miner", "max_inflight")),
    ],
)
def test_the_reference_s_variables_are_read_from_dotenv(
    folder: Path, variable: str, value: str, name: tuple[str, ...]
) -> None:
    write(folder, ".env", f"JOB_SERVER_URL=https://j.example\nTENSORAUTH_URL=https://t.example\n{variable}={value}\n")
    loaded = load_from([], {}, folder)
    found: object = loaded.settings
    for part in name:
        found = getattr(found, part)
    assert str(found) == value
    assert str(loaded.origins[name]) == f".env {variable}"


def test_an_empty_variable_of_the_reference_is_not_set_unless_empty_means_off(folder: Path) -> None:
    names = ("API_VERSION", "METRICS_API_URL", "PROVIDER", "MINER_MAX_INFLIGHT")
    loaded = load(folder, **dict.fromkeys(names, ""))
    assert loaded.settings.jobserver.metrics_api_url == ""
    assert {str(origin) for origin in loaded.origins.values() if origin.kin is not Kin.DEFAULT} == {
        "environment JOB_SERVER_URL",
        "environment TENSORAUTH_URL",
        "environment METRICS_API_URL",
    }


def test_every_flag_of_an_operator_s_start_script_is_taken(folder: Path) -> None:
    loaded = load(
        folder,
        *("--wallet.name", "w", "--wallet.hotkey", "h", "--wallet.path", "/srv/wallets", "--netuid", "48"),
        *("--subtensor.network", "test", "--subtensor.chain_endpoint", "ws://127.0.0.1:9944"),
        *("--axon.ip", "0.0.0.0", "--axon.port", "8101", "--axon.external_ip", "203.0.113.7"),  # noqa: S104
        *("--axon.external_port", "18101", "--logging.debug"),
        *("--blacklist.force_validator_permit", "--blacklist.allow_non_registered"),
        *("--neuron.name", "miner1", "--neuron.device", "cpu", "--neuron.epoch_length", "100"),
        *("--neuron.events_retention_size", "2147483648", "--neuron.dont_save_events", "--wandb.off"),
        *("--wandb.project_name", "p", "--wandb.notes=n", "--axon.max_workers", "10"),
    )
    settings = loaded.settings
    assert (settings.wallet.name, settings.wallet.hotkey) == ("w", "h")
    assert settings.subtensor.chain_endpoint == "ws://127.0.0.1:9944"
    assert (settings.axon.port, settings.axon.external_port) == (8101, 18101)
    assert settings.logging.level is LogLevel.DEBUG
    assert settings.blacklist.force_validator_permit
    assert settings.blacklist.allow_non_registered
    assert len(loaded.warnings) == 1
    for flag in (
        "--neuron.device",
        "--neuron.epoch_length",
        "--neuron.dont_save_events",
        "--wandb.off",
        "--wandb.notes",
    ):
        assert flag in loaded.warnings[0]
    assert "--neuron.name" not in loaded.warnings[0]


@pytest.mark.parametrize(("flag", "level"), [("trace", "trace"), ("debug", "debug"), ("info", "info")])
def test_bittensor_s_log_switches_set_the_level(folder: Path, flag: str, level: str) -> None:
    assert load(folder, f"--logging.{flag}").settings.logging.level == level
    assert load(folder, f"--logging.{flag}=false").settings.logging.level == "info"


def test_a_value_may_follow_an_equals_sign_and_contain_one(folder: Path) -> None:
    assert load(folder, "--jobserver.url=https://h.example/a=b").settings.jobserver.url == "https://h.example/a=b"


@pytest.mark.parametrize("word", ["true", "1", "yes", "TRUE", "Yes"])
def test_words_that_mean_on(folder: Path, word: str) -> None:
    environ = {"QCOMPUTE_BLACKLIST__ALLOW_NON_REGISTERED": word}
    assert load(folder, **environ).settings.blacklist.allow_non_registered is True
    assert load(folder, "--blacklist.allow_non_registered", word).settings.blacklist.allow_non_registered is True


@pytest.mark.parametrize("word", ["false", "0", "no", "FALSE"])
def test_words_that_mean_off(folder: Path, word: str) -> None:
    environ = {"QCOMPUTE_BLACKLIST__FORCE_VALIDATOR_PERMIT": word}
    assert load(folder, **environ).settings.blacklist.force_validator_permit is False
    argument = f"--blacklist.force_validator_permit={word}"
    assert load(folder, argument).settings.blacklist.force_validator_permit is False


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_no_other_text_is_a_switch(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    if text.strip().lower() in ("true", "1", "yes", "false", "0", "no"):
        return
    folder = tmp_path_factory.getbasetemp()
    found = "\n".join(problems(folder, QCOMPUTE_BLACKLIST__ALLOW_NON_REGISTERED=text))
    assert "blacklist.allow_non_registered" in found
    assert "QCOMPUTE_BLACKLIST__ALLOW_NON_REGISTERED" in found


def test_lists_are_separated_by_commas_or_written_as_toml(folder: Path) -> None:
    for text in ("a, b", '["a", "b"]'):
        assert load(folder, "--blacklist.denied_hotkeys", text).settings.blacklist.denied_hotkeys == ("a", "b")
        environ = {"QCOMPUTE_BLACKLIST__DENIED_HOTKEYS": text}
        assert load(folder, **environ).settings.blacklist.denied_hotkeys == ("a", "b")


def test_an_empty_text_means_none_where_none_is_allowed(folder: Path) -> None:
    config = write(folder, "m.toml", '[axon]\nexternal_ip = "203.0.113.7"\n')
    assert load(folder, "--config", str(config), "--axon.external_ip", "").settings.axon.external_ip is None


def test_provider_tables_are_merged_value_by_value(folder: Path) -> None:
    config = write(
        folder, "m.toml", "[providers.aer]\nmethod = 'automatic'\nshots = [1, 2]\n[providers.aer.noise]\nx = 1\n"
    )
    loaded = load(
        folder,
        *("--config", str(config), "--providers.aer.method", "stabilizer"),
        QCOMPUTE_PROVIDERS__AER__MEMORY_MB="512",
        PROVIDER="aer",
    )
    expected = {"method": "stabilizer", "shots": [1, 2], "noise": {"x": 1}, "memory_mb": "512"}
    assert loaded.settings.provider_table == expected
    assert str(loaded.origins["providers", "aer", "shots"]) == f"file {config}"


def test_a_provider_s_list_may_be_given_as_toml(folder: Path) -> None:
    loaded = load(folder, "--providers.aer.devices", '["a", "b"]', "--providers.aer.project=007")
    assert loaded.settings.provider_table == {"devices": ["a", "b"], "project": "007"}
    (line,) = problems(folder, "--providers.aer.devices", "[a")
    assert line.startswith("providers.aer.devices: not a TOML array")


@pytest.mark.parametrize("key", ["mock", "my_vendor", "my_package.my_module:MyAdapter"])
def test_a_provider_is_a_key_or_a_path(folder: Path, key: str) -> None:
    assert load(folder, PROVIDER=key).settings.provider == key


def test_the_settings_file_may_be_named_in_the_environment(folder: Path) -> None:
    config = write(folder, "m.toml", "netuid = 7\n")
    loaded = load(folder, QCOMPUTE_CONFIG=str(config))
    assert loaded.settings.netuid == 7


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("--wallet.nmae", "--wallet.name"),
        ("--axon.prot", "--axon.port"),
        ("--wandb_off", "--wandb.off"),
        ("--chek-config", "--check-config"),
        ("--max_inflight", "--miner.max_inflight"),
        ("--mock", "--provider mock"),
    ],
)
def test_an_unknown_flag_names_the_nearest(folder: Path, wrong: str, near: str) -> None:
    (line,) = problems(folder, wrong, "value")
    assert line.startswith(f"{wrong}: unknown flag")
    assert near in line


@pytest.mark.parametrize("variable", ["QCOMPUTE_AXN__PORT", "QCOMPUTE_AXON__PROT", "QCOMPUTE_AXON_PORT"])
def test_an_unknown_variable_names_the_nearest_and_its_source(folder: Path, variable: str) -> None:
    (line,) = problems(folder, **{variable: "1"})
    assert line == f"{variable}: unknown name in the environment; did you mean QCOMPUTE_AXON__PORT?"
    write(folder, ".env", f"{variable}=1\n")
    (line,) = problems(folder)
    assert "in the .env" in line


@pytest.mark.parametrize(
    ("text", "name", "near"),
    [
        ("[axn]\nport = 1\n", "axn", "axon"),
        ("[axon]\nprot = 1\n", "axon.prot", "axon.port"),
        ("netuit = 1\n", "netuit", "netuid"),
    ],
)
def test_an_unknown_key_of_the_file_names_the_nearest_and_the_file(
    folder: Path, text: str, name: str, near: str
) -> None:
    config = write(folder, "m.toml", text)
    (line,) = problems(folder, "--config", str(config))
    assert line == f"{name}: unknown key in settings file {config}; did you mean {near}?"


def test_a_file_that_is_missing_or_not_toml_is_a_problem(folder: Path) -> None:
    (line,) = problems(folder, "--config", str(folder / "none.toml"))
    assert "none.toml: No such file" in line
    config = write(folder, "m.toml", "netuid = \n")
    (line,) = problems(folder, "--config", str(config))
    assert "line 1" in line


def test_quoted_switches_in_the_file_are_refused(folder: Path) -> None:
    config = write(folder, "m.toml", '[blacklist]\nforce_validator_permit = "false"\n')
    (line,) = problems(folder, "--config", str(config))
    assert "blacklist.force_validator_permit" in line


def test_all_problems_are_told_at_once(folder: Path) -> None:
    found = problems(
        folder,
        "--axon.prot",
        "1",
        "--netuid",
        "many",
        "stray",
        "--wallet.name",
        QCOMPUTE_X="1",
        MINER_MAX_INFLIGHT="-1",
    )
    assert len(found) == 6
    assert any(line.startswith("netuid: ") and "flag --netuid" in line for line in found)
    assert any(line.startswith("miner.max_inflight: ") and "environment MINER_MAX_INFLIGHT" in line for line in found)
    assert any(line.startswith("--wallet.name: needs a value") for line in found)
    assert any(line.startswith("stray: not a flag") for line in found)


def test_a_missing_required_value_says_what_to_set_and_how_to_try_without(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_from([], {"JOB_SERVER_URL": "  "}, folder)
    lines = caught.value.message.splitlines()
    assert [line.split()[0] for line in lines] == ["jobserver.url", "jobserver.tensorauth_url"]
    assert "JOB_SERVER_URL" in lines[0]
    assert "TENSORAUTH_URL" in lines[1]
    assert all("make demo" in line for line in lines)


def test_a_wrong_secret_is_not_repeated(folder: Path) -> None:
    config = write(folder, "m.toml", '[providers]\nibm = "s3cret"\n')
    assert "s3cret" not in "\n".join(
        problems(folder, "--config", str(config), "--providers.key.x.y", "1", "--netuid", "x")
    )


def test_the_ledger_lies_in_the_folder_of_the_miner_s_name(folder: Path) -> None:
    assert load(folder).settings.ledger.file == Path("~/.qcompute/ledger.sqlite3").expanduser()
    assert load(folder, "--neuron.name", "b").settings.ledger.file == Path("~/.qcompute/b/ledger.sqlite3").expanduser()
    assert load(folder, "--neuron.full_path", "/data").settings.ledger.file == Path("/data/ledger.sqlite3")
    both = load(folder, "--neuron.full_path", "/data", "--ledger.path", "/other/l.sqlite3")
    assert both.settings.ledger.file == Path("/other/l.sqlite3")


def test_a_miner_s_name_cannot_leave_its_folder(folder: Path) -> None:
    (line,) = problems(folder, "--neuron.name", "../other")
    assert line.startswith("neuron.name")


def test_names_of_dotenv_that_are_not_ours_are_kept_for_the_environment(folder: Path) -> None:
    write(folder, ".env", "IONQ_API_KEY=k\nPROVIDER=mock\nQCOMPUTE_NETUID=7\n")
    assert load(folder).foreign == {"IONQ_API_KEY": "k"}


def test_the_settings_cannot_be_changed(folder: Path) -> None:
    settings = load(folder).settings
    with pytest.raises(ValueError, match="frozen"):
        settings.netuid = 1


def test_a_secret_is_no_setting_and_reaches_the_environment_from_dotenv(tmp_path: Path) -> None:
    """Its value must be in no settings object, which is printed by ``--check-config``."""
    (tmp_path / ".env").write_text("QCOMPUTE_SECRET_IONQ=hunter2\n")
    loaded = load_from([], REQUIRED | {"QCOMPUTE_SECRET_BRAKET_FILE": "somewhere"}, tmp_path)
    assert loaded.foreign == {"QCOMPUTE_SECRET_IONQ": "hunter2"}
    assert "hunter2" not in repr(loaded.settings)
    assert "hunter2" not in report(loaded)
