"""Common base of the tools: options, configuration, messages, progress."""

import logging
import sys

from ctapipe.core import Provenance, Tool, ToolConfigurationError, traits
from tqdm.auto import tqdm
from traitlets import default
from traitlets.config import Application, ArgumentError, Config

from ..configuration.file import read_configuration
from ..configuration.nesting import at_the_top, refuse_selection, unused_sections
from ..configuration.sections import (
    CommandLineFirst,
    check_options_at_top,
    check_sections,
)
from ..files.paths import FilePath, Names, find_files, printable
from ..terminal import print_anything
from .command_line import (
    check_options,
    mark_files,
    repeat_options,
    versions,
    with_dashes,
)
from .ending import ending_when_terminated
from .logs import check_log

__all__ = ["GammaPhysNetTool"]

#: Suffixes of the files that tools write into their output folders.
_OUTPUT_SUFFIXES = {".ecsv", ".h5", ".html", ".json", ".pdf", ".png"}
#: Options with which nothing is logged.
_QUIET = {"-q", "--quiet", "-h", "--help", "--help-all", "-V", "--version"}


class GammaPhysNetTool(CommandLineFirst, Tool):
    """Base of the tools.

    Lists of files, models and seeds take several values on the command line. All tools
    read the same configuration files, including those of ``ctapipe-process``.

    Parameters
    ----------
    **kwargs
        As for `ctapipe.core.Tool`.
    """

    config_files = Names(
        help=(
            "Configuration files: YAML, JSON, TOML or Python. All tools can share them."
            " Later ones override earlier ones, and the command line overrides all."
        )
    ).tag(config=True)

    log_level = traits.Enum(
        Application.log_level.values,
        default_value="INFO",
        help="Log level by value or name.",
    ).tag(config=True)

    log_file = FilePath(
        default_value=None,
        allow_none=True,
        directory_ok=False,
        help="File to write the log to.",
    ).tag(config=True)

    provenance_log = FilePath(
        directory_ok=False, help="File to which the provenance of outputs is added."
    ).tag(config=True)

    progress_bar = traits.Bool(
        True, help="Show progress bars, if there is a terminal to show them on."
    ).tag(config=True)

    @default("provenance_log")
    def _default_provenance_log(self):
        return f"{self.name}.provenance.log"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        own = type(self).__name__
        # The help shows the defaults of this tool, not those of all tools.
        self.aliases = {
            alias: f"{own}.{option.removeprefix('Tool.')}"
            if option.startswith("Tool.")
            else option
            for alias, option in self.aliases.items()
        }
        self.flags |= traits.flag(
            "progress",
            f"{own}.progress_bar",
            "Show progress bars",
            "Show no progress bars",
        )
        self.version = versions()

    def run(self, argv=None, raises=False):
        """Run the tool, and exit.

        Parameters
        ----------
        argv : list of str, optional
            The command line; that of the process by default.
        raises : bool
            Whether errors are raised, not printed.
        """
        print_anything()
        argv = sys.argv[1:] if argv is None else argv
        if _QUIET.intersection(argv):
            # Already before the command line is parsed.
            self.quiet = True
            self.update_logging_config()
        try:
            with ending_when_terminated():
                super().run(argv, raises)
        finally:
            for handler in self._log_files():
                # A handler that is only closed would open its file again.
                logging.getLogger(self.module_name).removeHandler(handler)
                handler.close()

    def parse_command_line(self, argv=None):
        """Parse the command line, with several values for lists.

        Parameters
        ----------
        argv : list of str, optional
            As for `run`.

        Raises
        ------
        ToolConfigurationError
            If it cannot be parsed.
        """
        argv = sys.argv[1:] if argv is None else argv
        argv = mark_files(argv, self._options())
        check_options(argv, self._options())
        # Without traitlets' wrapper, whose exit status says nothing.
        parse = Application.parse_command_line.__wrapped__
        try:
            parse(self, repeat_options(argv, self._list_options()))
        except ArgumentError as error:
            raise ToolConfigurationError(str(error)) from error
        if self.extra_args:
            raise ToolConfigurationError(f"not understood: {' '.join(self.extra_args)}")

    def _options(self):
        """Options of the command line, with their dashes."""
        names = ("h", "help"), "help-all", ("V", "version"), *self.aliases, *self.flags
        return [option for keys in names for option in with_dashes(keys)]

    def _list_options(self):
        """Those that take several values."""
        lists = {
            f"{type(self).__name__}.{name}"
            for name, trait in self.traits(config=True).items()
            if isinstance(trait, traits.List)
        }
        keys = [*lists, *(keys for keys, name in self.aliases.items() if name in lists)]
        return {option for key in keys for option in with_dashes(key)}

    def initialize(self, argv=None):
        """Read command line and configuration files.

        Parameters
        ----------
        argv : list of str, optional
            As for `run`.

        Raises
        ------
        ToolConfigurationError
            If something in them cannot be parsed, is unknown or has no effect.
        """
        self.parse_command_line(argv)
        self._check_logs()
        self.update_logging_config()
        files, sources = Config(), []
        for path in self._configuration_paths():
            sources.append(read_configuration(path))
            files.merge(sources[-1])
            Provenance().add_input_file(path, "Tool Configuration", add_meta=False)
        check_options_at_top(files)
        for config in (files, self.cli_config):
            refuse_selection(config)
        for config in (files, self.cli_config):
            self._report_unused(config, check_sections(config))
        config = Config()
        for source in (*sources, self.cli_config):
            # One by one: later ones override earlier ones, nested or not.
            config.merge(at_the_top(source, type(self), self.classes))
        self.update_config(config)
        self._check_logs()
        self.update_logging_config()
        self.log.info("ctapipe version %s", self.version_string)

    def _configuration_paths(self):
        return [path for text in self.config_files for path in find_files(text)]

    def _check_logs(self):
        """Check the log files, before anything is added to them."""
        self._check_provenance_log()
        if self.log_file is not None:
            others = [*self._paths_without_logs(self.log_file), self.provenance_log]
            check_log("--log-file", self.log_file, others)

    def _check_provenance_log(self):
        path = self.provenance_log
        # A list in JSON.
        check_log("--provenance-log", path, self._paths_without_logs(path), b"[")

    def _paths_without_logs(self, log):
        """Files of this run whose content could be mistaken for a log."""
        paths = self._configuration_paths()
        if output := getattr(self, "output_path", None):
            paths.append(output)
        folder = getattr(self, "output_dir", None)
        if folder and log.suffix in _OUTPUT_SUFFIXES:
            paths.append(folder / log.name)
        return paths

    def _report_unused(self, config, unknown):
        for name in unused_sections(config, self.classes):
            if name in unknown:
                self.log.warning("the section %s is unknown: it does nothing", name)
            else:
                self.log.info("the section %s of ctapipe does nothing here", name)

    def update_logging_config(self):
        """Configure what is logged, and where.

        Raises
        ------
        ToolConfigurationError
            If the log file cannot be written.
        """
        try:
            super().update_logging_config()
        except ValueError as error:
            raise ToolConfigurationError(
                f"cannot write the log to {self.log_file}: {error.__cause__ or error}"
            ) from error
        for handler in self._log_files():
            # Whatever the encoding of the terminal.
            handler.stream.reconfigure(encoding="utf-8", errors="backslashreplace")

    def _log_files(self):
        handlers = logging.getLogger(self.module_name).handlers
        return [h for h in handlers if isinstance(h, logging.FileHandler)]

    def write_provenance(self):
        """Write the provenance of the run, if possible."""
        if {"--version", "-V"}.intersection(self.argv):
            return
        if self.provenance_log is None:
            # traitlets resets all options if one of them is wrong.
            return
        try:
            self._check_provenance_log()
            super().write_provenance()
        except ToolConfigurationError as error:
            self.log.warning("the provenance was not written. %s", error)
        except OSError as error:
            self.log.warning(
                "the provenance could not be written to %s: %s. Choose another place "
                "with --provenance-log",
                self.provenance_log,
                error.strerror or error,
            )

    @property
    def shows_progress(self):
        """Whether to show progress, if there is a terminal to show it on."""
        return self.progress_bar and not self.quiet

    def progress(self, what, total, unit):
        """Make a progress bar, which is shown on terminals only.

        Parameters
        ----------
        what : str
            Name of the task.
        total : int or None
            Number of steps, if it is known; with 0 nothing is shown.
        unit : str
            Name of a step.

        Returns
        -------
        tqdm.tqdm
            The bar.
        """
        disable = None if self.shows_progress and total != 0 else True
        return tqdm(desc=printable(what), total=total, unit=unit, disable=disable)
