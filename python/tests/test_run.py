"""The ``run`` request: one stage in a process of its own, well-behaved and not."""

from __future__ import annotations

import signal
import sys
import textwrap
import unittest

from support import ProjectTestCase


def pipeline(body: str, declaration: str = "@stage") -> str:
    """A pipeline of one stage called `work` with this body."""
    lines = "".join(f"    {line}\n" for line in textwrap.dedent(body).strip().splitlines())
    return f"import os, sys\nfrom pivot import stage\n\n{declaration}\ndef work():\n{lines}"


class RunTestCase(ProjectTestCase):
    def run_body(self, body: str, **more):
        self.write("pipeline.py", pipeline(body))
        return self.run_request(**more)

    def succeeds(self, body: str, **more):
        ended = self.run_body(body, **more)
        self.assertTrue(ended.answer.get("ok"), ended)
        self.assertEqual(ended.status, 0, ended)
        return ended

    def fails(self, body: str, **more):
        ended = self.run_body(body, **more)
        self.assertEqual(ended.answer.get("ok"), False, ended)
        self.assertEqual(ended.status, 1, ended)
        return ended.answer["error"]


class Success(RunTestCase):
    def test_arguments_params_and_outputs(self):
        self.write("data.csv", "1,2\n")
        self.write(
            "pipeline.py",
            """
            from pivot import stage, Metric

            @stage(deps=['data.csv'], outs=['copy.csv', Metric('m.json')], params={'lr': 0.01})
            def work(data, out, metric, lr):
                open(out, 'w').write(open(data).read() + str(lr))
                open(metric, 'w').write('{}')
            """,
        )
        ended = self.run_stage("work", overrides={"work": {"lr": 0.5}})
        answer = ended.answer
        self.assertEqual((answer["type"], answer["ok"], ended.status), ("result", True, 0), ended)
        self.assertEqual(self.read("copy.csv"), "1,2\n0.5")
        self.assertGreaterEqual(answer["import_ms"], 0)
        self.assertGreaterEqual(answer["run_ms"], 0)
        self.assertIsInstance(answer["sources"], dict)
        self.assertIsInstance(answer["extras"], list)

    def test_target(self):
        self.write("stages.py", "def train(data, variant, lr=1):\n    print(data, variant, lr)\n")
        ended = self.run_request(
            stage="fit@bert", entry={"python": "stages.train"}, params={"lr": 2}, deps=["a"],
            variant="bert",
        )  # fmt: skip
        self.assertEqual((ended.stdout, ended.answer["ok"]), ("a bert 2\n", True), ended)

    def test_cwd(self):
        (self.root / "sub" / "deep").mkdir(parents=True)
        self.write("data.csv", "content")
        self.write(
            "pipeline.py",
            """
            import os
            from pivot import stage
            assert os.path.exists('pipeline.py')

            @stage(deps=['data.csv'], outs=['sub/out'], cwd='sub/deep')
            def work(data, out):
                open(out, 'w').write(open(data).read() + data)
            """,
        )
        ended = self.run_stage("work")
        self.assertTrue(ended.answer["ok"], ended)
        self.assertEqual(self.read("sub/out"), "content../../data.csv")

    def test_coroutine(self):
        self.write(
            "pipeline.py",
            """
            import asyncio, functools
            from pivot import stage

            @stage
            async def work():
                await asyncio.sleep(0)
                print('awaited')

            @stage(name='wrapped')
            @functools.wraps(work)
            def wrapped():
                return work()
            """,
        )
        for name in ("work", "wrapped"):
            ended = self.run_request(stage=name)
            self.assertEqual((ended.answer["ok"], ended.stdout), (True, "awaited\n"), ended)

    def test_exit_zero_is_a_good_end(self):
        for code in ("", "0", "None"):
            self.succeeds(f"sys.exit({code})")

    def test_what_is_open_or_running_at_the_end_is_finished(self):
        self.succeeds(
            """
            import atexit, concurrent.futures, threading, time
            global left_open, pool
            left_open = open('open.txt', 'w')
            left_open.write('flushed')
            atexit.register(lambda: open('atexit.txt', 'w').write('ran'))
            pool = concurrent.futures.ThreadPoolExecutor()
            pool.submit(lambda: open('pool.txt', 'w').write('ran'))
            def slow():
                release.wait()
                open('thread.txt', 'w').write('ran')
                print('from the thread', flush=True)
            release = threading.Event()
            threading.Thread(target=slow).start()
            threading.Timer(0.05, release.set).start()
            """
        )
        for name, text in (
            ("open", "flushed"),
            ("atexit", "ran"),
            ("pool", "ran"),
            ("thread", "ran"),
        ):
            self.assertEqual(self.read(f"{name}.txt"), text)

    def test_prints_in_order_and_complete(self):
        ended = self.succeeds(
            """
            import subprocess
            print('one')
            subprocess.run(['echo', 'two'], check=True)
            os.write(1, b'three\\n')
            print('no newline', end='')
            """
        )
        self.assertEqual(ended.stdout, "one\ntwo\nthree\nno newline")

    def test_processes_of_multiprocessing(self):
        methods = ["spawn", "fork", "forkserver"]
        self.write("steps.py", "def double(x):\n    return x * 2\n")
        self.write(
            "pipeline.py",
            """
            import multiprocessing
            from pivot import stage
            from steps import double

            def triple(x):
                return x * 3

            @stage(params={'method': 'fork'})
            def work(method):
                with multiprocessing.get_context(method).Pool(2) as pool:
                    print(pool.map(double, [1, 2]), pool.map(triple, [1, 2]))
            """,
        )
        for method in methods:
            with self.subTest(method):
                ended = self.run_request(params={"method": method})
                self.assertTrue(ended.answer.get("ok"), ended)
                self.assertEqual(ended.stdout, "[2, 4] [3, 6]\n", ended)

    def test_a_forked_child_that_stays_does_not_hold_the_connection(self):
        # The driver reads until the connection's end: it would run into its deadline.
        self.succeeds(
            """
            if os.fork() == 0:
                os.setsid()
                for fd in (0, 1, 2):
                    os.close(fd)
                import time
                while os.getppid() != 1 and not os.path.exists('stop'):
                    time.sleep(0.01)
                os._exit(0)
            open('stop', 'w').close()
            """
        )


class Failure(RunTestCase):
    def test_exception(self):
        self.write("lib.py", "def divide(x):\n    return 1 / x\n")
        error = self.fails(
            """
            import lib
            try:
                lib.divide(0)
            except ZeroDivisionError as error:
                raise ValueError('no result') from error
            """
        )
        self.assertEqual((error["type"], error["message"]), ("ValueError", "no result"))
        self.assertEqual((error["file"], error["line"]), ("pipeline.py", 10))
        text = error["traceback"]
        self.assertTrue(text.startswith("Traceback (most recent call last):\n"), text)
        self.assertIn("ZeroDivisionError: division by zero", text)
        self.assertIn("The above exception was the direct cause", text)
        self.assertTrue(text.endswith("ValueError: no result\n"), text)
        files = [
            line.partition('"')[2].partition('"')[0]
            for line in text.splitlines()
            if "File " in line
        ]
        self.assertEqual({f.rpartition("/")[2] for f in files}, {"pipeline.py", "lib.py"})
        self.assertEqual(len(files), 3)

    def test_frames_of_an_event_loop_are_left_out(self):
        self.write(
            "pipeline.py",
            """
            from pivot import stage
            @stage
            async def work():
                raise LookupError('here')
            """,
        )
        text = self.run_request().answer["error"]["traceback"]
        self.assertEqual(text.count("  File "), 1, text)

    def test_calling_wrongly_has_no_empty_traceback(self):
        self.write(
            "pipeline.py",
            """
            from pivot import stage
            def inner(a): ...
            def outer(*args, **kwargs):
                return inner(*args, **kwargs)
            stage(name='work')(outer)
            """,
        )
        error = self.run_request().answer["error"]
        self.assertEqual(error["type"], "TypeError")
        self.assertIn("missing 1 required positional argument: 'a'", error["message"])

    def test_exit_codes(self):
        error = self.fails("sys.exit(3)")
        self.assertEqual(
            (error["type"], error["message"]), ("SystemExit", "the stage called sys.exit(3)")
        )
        self.assertEqual(self.fails("sys.exit('no data')")["message"], "no data")

    def test_deep_recursion_and_long_chains(self):
        error = self.fails("work()")
        self.assertEqual(error["type"], "RecursionError")
        self.assertIn("repeated", error["traceback"])
        error = self.fails(
            """
            error = None
            for i in range(3000):
                new = ValueError(i)
                new.__cause__ = error
                error = new
            raise error
            """
        )
        self.assertEqual((error["type"], error["message"]), ("ValueError", "2999"))

    def test_generators(self):
        self.write(
            "pipeline.py",
            "from pivot import stage\n@stage\ndef work():\n    return (x for x in 'ab')\n",
        )
        error = self.run_request().answer["error"]
        self.assertEqual(error["type"], "PivotError")
        self.assertIn("returned a generator", error["message"])

    def test_interrupt_runs_the_cleanup(self):
        ended = self.run_body(
            """
            import signal
            try:
                os.kill(os.getpid(), signal.SIGINT)
                signal.pause()
            finally:
                print('cleaned up')
            """
        )
        self.assertEqual(ended.answer["error"]["type"], "KeyboardInterrupt", ended)
        self.assertEqual(ended.stdout, "cleaned up\n")

    def test_the_pipeline_changed_meanwhile(self):
        self.write("pipeline.py", "")
        error = self.run_request().answer["error"]
        self.assertIn("`pipeline.py` no longer declares stage `work`", error["message"])
        self.write("pipeline.py", "import not_there\n")
        error = self.run_request().answer["error"]
        self.assertEqual((error["type"], error["file"]), ("ModuleNotFoundError", "pipeline.py"))
        self.assertIn("no package `not_there`", error["hint"])

    def test_exception_groups_and_notes(self):
        if sys.version_info < (3, 11):
            self.skipTest("they came with 3.11")
        error = self.fails(
            """
            inner = ValueError('inner')
            inner.add_note('a note')
            raise ExceptionGroup('several', [inner])
            """
        )
        self.assertIn("a note", error["traceback"])


class Hostile(RunTestCase):
    def test_death_without_a_result(self):
        for body, status in (
            ("os._exit(0)", 0),
            ("os._exit(9)", 9),
            ("os.kill(os.getpid(), 9)", -signal.SIGKILL),
            ("os.abort()", -signal.SIGABRT),
        ):
            with self.subTest(body):
                ended = self.run_body(body)
                self.assertEqual((ended.answer, ended.status), ({}, status), ended)
        self.assertIn("Fatal Python error: Aborted", ended.stderr)
        self.assertIn('pipeline.py", line', ended.stderr)

    def test_patched_standard_library(self):
        self.succeeds(
            """
            import builtins, json, time, traceback
            json.dumps = json.JSONEncoder.encode = json.JSONEncoder.iterencode = None
            json.loads = json.JSONDecoder.decode = None
            os.write = os.read = os.fstat = os._exit = os.chdir = sys.exit = None
            time.perf_counter = traceback.TracebackException = None
            """
        )

    def test_closed_descriptors(self):
        ended = self.succeeds("print('said')\nfor fd in (0, 1, 2): os.close(fd)")
        self.assertEqual(ended.stdout, "said\n")
        self.succeeds("os.closerange(3, 256)")
        self.succeeds("sys.stdout.close(); sys.stderr = None; sys.stdout = object()")
        # It took our own as well: no result, and none of our bytes in the file that got its number.
        ended = self.run_body(
            """
            os.closerange(3, 4096)
            files = [os.open('mine', os.O_WRONLY | os.O_CREAT) for _ in range(1000)]
            """
        )
        self.assertEqual((ended.answer, ended.status), ({}, 1), ended)
        self.assertEqual(self.read("mine"), "")

    def test_changed_surroundings(self):
        self.succeeds(
            """
            os.makedirs('gone'); os.chdir('gone'); os.rmdir('../gone')
            os.environ.clear(); sys.path.clear(); sys.argv.clear(); sys.modules.pop('pivot')
            sys.setrecursionlimit(60)
            """
        )

    def test_reads_nothing(self):
        self.succeeds("assert sys.stdin.read() == ''")

    def test_unknown_requests(self):
        self.write("pipeline.py", "")
        error = self.request({"type": "dance"}).answer["error"]
        self.assertEqual(error["kind"], "internal")
        self.assertIn("'dance'", error["message"])

    def test_flags_of_python(self):
        self.write("pipeline.py", "from pivot import stage\n@stage\ndef work(): ...\n")
        flags = [("-O",), ("-B",), ("-W", "error")] + (
            [("-P",)] if sys.version_info >= (3, 11) else []
        )
        for each in flags:
            with self.subTest(each):
                request = {
                    "type": "inspect",
                    "root": str(self.root),
                    "entry": {"file": "pipeline.py"},
                }
                self.assertEqual(self.request(request, flags=each).answer.get("type"), "inspected")


if __name__ == "__main__":
    unittest.main()
