"""What CuPy compiles for a training: all kernels of gpucnn by threads, and nothing in a second process."""

TEXT = """
    import hashlib, threading
    from cupy.cuda import compiler
    from small_training import trained

    by_threads, others, compile = [], [], compiler._NVRTCProgram.compile

    def noted(program, *arguments):
        if program.src:  # without one, CuPy looks at the version of the compiler
            ahead = threading.current_thread().name.startswith("gpucnn-compiler")
            (by_threads if ahead else others).append(program.src)
        return compile(program, *arguments)

    compiler._NVRTCProgram.compile = noted
    weights = hashlib.sha256(b"".join(w.tobytes() for w in trained("cuda", "gpu"))).hexdigest()
    alone = all(text.count("__global__") == 1 for text in by_threads)
    print(len(by_threads), sum('.cu"' in text for text in others), alone, weights)
"""


def test_threads_compile_for_the_first_process_and_nobody_for_the_second(output, tmp_path):
    first, second = (output(TEXT, {"CUPY_CACHE_DIR": str(tmp_path)})[-1].split() for _ in range(2))
    assert int(first[0]) > 5
    assert first[1:3] == ["0", "True"]
    assert second[:2] == ["0", "0"]
    assert second[3] == first[3]
