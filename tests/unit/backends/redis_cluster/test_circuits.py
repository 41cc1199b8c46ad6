from fieldpost.backends.redis_cluster.circuits import Circuits

#: By the specification's own example: slot 12739; `foo` is another one.
KEY, OTHER = b"123456789", b"foo"


def test_a_circuit_opens_after_two_failures_and_lets_one_caller_a_second_try() -> None:
    circuits = Circuits()
    circuits.failed(KEY, 0.0)
    assert circuits.allows(KEY, 0.0)
    circuits.failed(KEY, 0.0)

    assert not circuits.allows(KEY, 0.9)
    assert circuits.allows(KEY, 1.0)
    assert not circuits.allows(KEY, 1.1)


def test_other_keys_are_asked_for_all_the_same() -> None:
    circuits = Circuits()
    for _ in range(5):
        circuits.failed(KEY, 0.0)

    assert circuits.allows(OTHER, 0.0)


def test_an_answer_closes_a_circuit_and_close_all_of_them() -> None:
    circuits = Circuits()
    for key in (KEY, OTHER):
        for _ in range(2):
            circuits.failed(key, 0.0)
    circuits.succeeded(KEY)

    assert circuits.allows(KEY, 0.0)
    assert not circuits.allows(OTHER, 0.0)
    circuits.close()
    assert circuits.allows(OTHER, 0.0)
