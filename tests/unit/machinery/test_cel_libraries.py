"""Function libraries: strings, lists, times, addresses, URLs, quantities, versions, formats, sets, authorizer."""

from typing import Any

import pytest

from stablehand.machinery.cel import CelError, Environment, compile_expression
from stablehand.machinery.cel.library.authorizer import Authorizer, Decision, Question
from stablehand.machinery.cel.types import DYN, STRING, Type

ENV = Environment({"self": DYN, "s": STRING, "authorizer": Type("kubernetes.authorization.Authorizer")})


def run(source: str, **values: Any) -> Any:
    return compile_expression(source, ENV).evaluate({"s": "Hello, World", "self": None, **values})


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        # strings
        ("s.charAt(4) + s.charAt(12)", "o"),
        (
            "[s.indexOf('o'), s.indexOf('o', 5), s.lastIndexOf('o'), s.lastIndexOf('o', 7), s.indexOf('z')]",
            [4, 8, 8, 4, -1],
        ),
        ("s.lowerAscii() + s.upperAscii()", "hello, worldHELLO, WORLD"),
        ("s.replace('o', '0') + s.replace('o', '0', 1)", "Hell0, W0rldHell0, World"),
        ("'a,b,c'.split(',') + 'a,b,c'.split(',', 2) + 'abc'.split('', 2)", ["a", "b", "c", "a", "b,c", "a", "bc"]),
        ("s.substring(7) + s.substring(0, 5)", "WorldHello"),
        ("' \\t x \\n'.trim()", "x"),
        ("['a', 'b'].join('-') + ['a', 'b'].join()", "a-bab"),
        (
            "'%s|%d|%.2f|%e|%x|%X|%b|%o|%%'.format(['a', 5, 1.5, 1234.5, 255, 255, 5, 8])",
            "a|5|1.50|1.234500e+03|ff|FF|101|10|%",
        ),
        ("'%s %s %s'.format([[1, 2], {'b': 1, 'a': 2}, null])", "[1, 2] {a: 2, b: 1} null"),
        ("strings.quote('a\"b\\n')", '"a\\"b\\n"'),
        ("s.contains('World') && s.startsWith('He') && s.endsWith('ld')", True),
        ("s.matches('^H[a-z]+,') && matches('x', 'x') && !'a1'.matches('^[[:alpha:]]+$')", True),
        ("'a1b22'.find('[0-9]+') + 'x'.find('y')", "1"),
        ("'a1b22'.findAll('[0-9]+') + 'a1b22'.findAll('[0-9]+', 1)", ["1", "22", "1"]),
        # lists and sets
        ("[1, 2].isSorted() && !['b', 'a'].isSorted() && [].isSorted()", True),
        ("[1, 2, 3].sum() + [duration('1m')].map(d, d.getSeconds()).sum()", 66),
        ("[3, 1, 2].min() + [3, 1, 2].max()", 4),
        ("[1, 2, 1].indexOf(1) + [1, 2, 1].lastIndexOf(1) + [1].indexOf(5)", 1),
        ("sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2])", True),
        # times
        ("timestamp('2026-11-23T22:00:00Z').getDayOfWeek('Europe/Berlin')", 1),
        ("timestamp('2026-01-31T23:30:00Z').getMonth('+01:00')", 1),
        ("timestamp('2026-01-31T23:30:00.5+01:00').getMilliseconds()", 500),
        ("string(timestamp('2026-01-01T00:00:00Z') + duration('36h30m'))", "2026-01-02T12:30:00Z"),
        ("timestamp('2026-01-02T00:00:00Z') - timestamp('2026-01-01T00:00:00Z') == duration('24h')", True),
        ("string(duration('-1.5h'))", "-5400s"),
        ("duration('90m').getHours() + duration('1h').getMinutes()", 61),
        ("int(timestamp(1000000000)) ", 1000000000),
        # addresses and URLs
        ("ip('10.0.0.1').family() + ip('::1').family()", 10),
        ("ip('127.0.0.1').isLoopback() && ip('fe80::1').isLinkLocalUnicast() && ip('8.8.8.8').isGlobalUnicast()", True),
        ("isIP('1.2.3.4') && !isIP('1.2.3.04') && !isIP('::ffff:1.2.3.4') && ip.isCanonical('::1')", True),
        ("string(ip('2001:DB8::1'))", "2001:db8::1"),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16'))", True),
        ("string(cidr('10.1.2.3/8').masked()) + ' ' + string(cidr('10.1.2.3/8').ip())", "10.0.0.0/8 10.1.2.3"),
        ("cidr('::/0').prefixLength() == 0 && !isCIDR('10.0.0.0') && !isCIDR('10.0.0.0/33')", True),
        ("url('https://u@a.b:80/c%20d?e=f&e=g').getHost()", "a.b:80"),
        (
            "url('https://[::1]:80/').getHostname() + url('https://a:1').getPort() + url('/x%20y').getEscapedPath()",
            "::11/x%20y",
        ),
        ("url('https://a?e=f&e=g&h').getQuery()", {"e": ["f", "g"], "h": [""]}),
        ("isURL('https://a') && isURL('/a') && !isURL('a b') && !isURL('../a')", True),
        # quantities, versions, formats
        ("quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1k').asInteger() == 1000", True),
        ("quantity('100m').add(quantity('0.9')).compareTo(quantity('1'))", 0),
        ("quantity('5').sub(2).asInteger() + quantity('-1').sign()", 2),
        ("isQuantity('1.5Gi') && !isQuantity('1.5X') && !quantity('100m').isInteger()", True),
        ("quantity('1.5').asApproximateFloat()", 1.5),
        ("semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-rc.1').isLessThan(semver('1.0.0'))", True),
        ("[semver('1.2.3').major(), semver('1.2.3').minor(), semver('1.2.3').patch()]", [1, 2, 3]),
        (
            "isSemver('1.2.3-a+b') && !isSemver('v1.2') && isSemver('v1.02', true) && semver('v1', true) == semver('1.0.0')",
            True,
        ),
        ("format.dns1123Label().validate('ok').hasValue()", False),
        ("format.named('dns1123Label').value().validate('A').value().size() > 0", True),
        ("format.named('nope').hasValue() || !format.uuid().validate('x').hasValue()", False),
        ("jsonpatch.escapeKey('a/b~c')", "a~1b~0c"),
    ],
)
def test_results(source: str, wanted: Any) -> None:
    assert run(source) == wanted


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("'abc'.charAt(4)", "index out of range: 4"),
        ("'abc'.substring(2, 1)", "invalid substring range. start: 2, end: 1"),
        ("[].min()", "min called on empty list"),
        (
            "duration(s)",
            "type conversion error from 'string' to 'google.protobuf.Duration': time: invalid duration \"x\"",
        ),
        ("quantity('1.5').asInteger()", "cannot convert value to integer"),
        ("s.matches(dyn('(')  )", "error parsing regexp: missing closing ): `(`"),
        (
            "'%d'.format(['a'])",
            "error during formatting: decimal clause can only be used on integers, was given string",
        ),
        ("'%d'.format([])", "index 0 out of range"),
        ("semver(s)", "invalid semver: x"),
    ],
)
def test_errors(source: str, message: str) -> None:
    with pytest.raises(CelError) as caught:
        run(source, s="x")
    assert str(caught.value) == message


def test_authorizer() -> None:
    asked: list[Question] = []

    def ask(question: Question) -> Decision:
        asked.append(question)
        return Decision(question.user is None, "because")

    source = (
        "authorizer.group('apps').resource('deployments').subresource('scale').namespace('n').name('d').check('get')"
        ".allowed() && !authorizer.serviceAccount('ns', 'sa').path('/healthz').check('get').allowed()"
    )
    assert run(source, authorizer=Authorizer(ask)) is True
    assert asked == [
        Question("get", "", "apps", "deployments", "scale", "n", "d"),
        Question("get", "/healthz", user=("ns", "sa")),
    ]
    assert run("authorizer.path('/x').check('get').reason()", authorizer=Authorizer(ask)) == "because"
