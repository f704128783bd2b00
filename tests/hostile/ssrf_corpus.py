"""URLs that lead where no validator may send us, as data: what each is, the URL, and why it is refused.

``{port}`` is a port on which 127.0.0.1, 127.0.0.2 and ::1 listen and count who comes; ``{redirect}`` the address of a
host that may be fetched from, which answers ``/<status>/<number>`` with that redirect to `LOCATIONS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Url:
    """One URL.

    ``names`` are its host's answers, one list of addresses for each time it is asked; such a case needs a resolver of
    ours and stays within this process.
    """

    what: str
    url: str
    reason: str
    names: tuple[tuple[str, ...], ...] = ()


PRIVATE: Final = "private_address"
BAD: Final = "bad_url"
PLAIN: Final = "not_https"

_ADDRESSES: Final = {
    "loopback": "127.0.0.1",
    "loopback, another one": "127.0.0.2",
    "loopback, the last one": "127.255.255.254",
    "private 10/8": "10.0.0.1",
    "private 172.16/12": "172.16.0.1",
    "private 172.16/12, its end": "172.31.255.254",
    "private 192.168/16": "192.168.1.1",
    "link-local": "169.254.1.1",
    "metadata of AWS, Google, Azure": "169.254.169.254",
    "metadata of AWS containers": "169.254.170.2",
    "metadata of Alibaba": "100.100.100.200",
    "metadata of Oracle": "192.0.0.192",
    "carrier NAT": "100.64.0.1",
    "unspecified": "0.0.0.0",  # noqa: S104 - an address to be refused
    "this network": "0.1.2.3",
    "multicast": "224.0.0.251",
    "broadcast": "255.255.255.255",
    "reserved": "240.0.0.1",
    "benchmarking": "198.18.0.1",
    "documentation 1": "192.0.2.1",
    "documentation 2": "198.51.100.1",
    "documentation 3": "203.0.113.1",
    "6to4 relay": "192.88.99.1",
    "IPv6 loopback": "[::1]",
    "IPv6 loopback in full": "[0:0:0:0:0:0:0:1]",
    "IPv6 unspecified": "[::]",
    "IPv6 unique local": "[fd12:3456::1]",
    "IPv6 metadata of AWS": "[fd00:ec2::254]",
    "IPv6 link-local": "[fe80::1]",
    "IPv6 site-local": "[fec0::1]",
    "IPv6 multicast": "[ff02::1]",
    "IPv6 documentation": "[2001:db8::1]",
    "IPv6 documentation, the new": "[3fff::1]",
    "IPv6 discard": "[100::1]",
    "IPv6 segment routing": "[5f00::1]",
    "IPv4-mapped": "[::ffff:127.0.0.1]",
    "IPv4-mapped in hex": "[::ffff:7f00:1]",
    "IPv4-mapped metadata": "[::ffff:169.254.169.254]",
    "IPv4-compatible": "[::127.0.0.1]",
    "IPv4-translated": "[::ffff:0:127.0.0.1]",
    "NAT64": "[64:ff9b::127.0.0.1]",
    "NAT64, local": "[64:ff9b:1::10.0.0.1]",
    "6to4": "[2002:7f00:1::]",
    "Teredo": "[2001:0:7f00:1::1]",
}

_SPELLINGS: Final = {
    "one number": ("2130706433", BAD),
    "one octal number": ("017700000001", BAD),
    "one hex number": ("0x7f000001", PRIVATE),
    "octal parts": ("0177.0.0.1", BAD),
    "hex parts": ("0x7f.0x0.0x0.0x1", PRIVATE),
    "mixed parts": ("0x7f.0.0.01", PRIVATE),
    "two parts": ("127.1", BAD),
    "three parts": ("127.0.1", BAD),
    "zeros in front": ("127.000.000.001", BAD),
    "zero": ("0", BAD),
    "zero in hex": ("0x0", PRIVATE),
    "metadata as one number": ("2852039166", BAD),
    "a dot behind": ("127.0.0.1.", BAD),
    "circled digits": ("①②⑦.⓪.⓪.①", PRIVATE),
    "fullwidth digits": ("\uff11\uff12\uff17.0.0.1", PRIVATE),
    "ideographic stops": ("127。0。0。1", PRIVATE),
    "a name": ("localhost", PRIVATE),
    "a name in capitals": ("LOCALHOST", PRIVATE),
    "a name in circled letters": ("ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", PRIVATE),
    "a soft hyphen in the name": ("local\xadhost", BAD),
    "percent signs": ("%31%32%37.0.0.1", BAD),
    "a name in percent signs": ("%6c%6f%63%61%6c%68%6f%73%74", BAD),
    "a zone": ("[fe80::1%25lo]", BAD),
    "loopback with a zone": ("[::1%25lo]", BAD),
    "a zone on IPv4": ("127.0.0.1%25lo", BAD),
    "NUL behind": ("127.0.0.1%00.example", BAD),
    "NUL itself": ("127.0.0.1\x00", BAD),
    "a tab": ("127.0.0.1\t", BAD),
    "a line break": ("127.0\n.0.1", BAD),
    "a carriage return": ("127.0.0.1\r", BAD),
    "a space": ("127.0.0.1 ", BAD),
    "a user name": ("circuits.example@127.0.0.1", BAD),
    "a user name and a password": ("user:SECRET@127.0.0.1", BAD),
    "an empty user name": ("@127.0.0.1", PRIVATE),
    "a percent sign for the @": ("circuits.example%40127.0.0.1", BAD),
    "a backslash before the @": ("circuits.example\\@127.0.0.1", BAD),
    "a backslash behind the host": ("127.0.0.1\\@circuits.example", BAD),
    "an open bracket": ("[::1", BAD),
    "text behind a bracket": ("[::1]x", BAD),
    "empty brackets": ("[]", BAD),
    "punycode of nothing": ("xn--", BAD),
    "a name of 300 letters": ("a" * 300, BAD),
    "a name of 2,000 letters": ("a." * 1000 + "example", BAD),
}

_WHOLE: Final = {
    "no scheme": ("//127.0.0.1:{port}/SECRET", BAD),
    "no host": ("https:///SECRET", BAD),
    "one slash": ("https:/127.0.0.1:{port}/SECRET", BAD),
    "no slash": ("https:127.0.0.1/SECRET", BAD),
    "backslashes": ("https:\\\\127.0.0.1:{port}\\SECRET", BAD),
    "four slashes": ("https:////127.0.0.1:{port}/SECRET", BAD),
    "plain http": ("http://127.0.0.1:{port}/SECRET", PLAIN),
    "plain http to a name": ("http://localhost:{port}/SECRET", PLAIN),
    "a line break in the scheme": ("ht\ntps://127.0.0.1:{port}/SECRET", BAD),
    "a space in front": (" https://127.0.0.1:{port}/SECRET", PRIVATE),
    "a header in the path": ("https://127.0.0.1:{port}/SECRET\r\nX: 1", BAD),
    "file": ("file:///etc/SECRET", BAD),
    "file with a host": ("file://127.0.0.1/etc/SECRET", BAD),
    "ftp": ("ftp://127.0.0.1:{port}/SECRET", BAD),
    "gopher": ("gopher://127.0.0.1:{port}/_SECRET", BAD),
    "data": ("data:text/plain,SECRET", BAD),
    "dict": ("dict://127.0.0.1:{port}/SECRET", BAD),
    "ldap": ("ldap://127.0.0.1:{port}/SECRET", BAD),
    "jar": ("jar:https://127.0.0.1:{port}/SECRET!/", BAD),
    "a WebSocket": ("ws://127.0.0.1:{port}/SECRET", BAD),
    "a Unix socket": ("http+unix://%2Fvar%2Frun%2FSECRET/", BAD),
    "port 0": ("https://127.0.0.1:0/SECRET", PRIVATE),
    "port 65536": ("https://127.0.0.1:65536/SECRET", BAD),
    "a negative port": ("https://127.0.0.1:-1/SECRET", BAD),
    "a port in words": ("https://127.0.0.1:SECRET/", BAD),
    "two ports": ("https://127.0.0.1:443:{port}/SECRET", BAD),
    "no port behind the colon": ("https://127.0.0.1:/SECRET", PRIVATE),
    "the ssh port of a public host": ("https://1.1.1.1:22/SECRET", BAD),
    "the mail port of a public host": ("https://1.1.1.1:25/SECRET", BAD),
    "a path of 8 KB": ("https://127.0.0.1:{port}/SECRET" + "a" * 8000, PRIVATE),
}

LOCATIONS: Final = (
    ("loopback", "https://127.0.0.1:{port}/SECRET", PRIVATE),
    ("loopback without TLS", "http://127.0.0.1:{port}/SECRET", PLAIN),
    ("another loopback", "https://127.0.0.2:{port}/SECRET", PRIVATE),
    ("IPv6 loopback", "https://[::1]:{port}/SECRET", PRIVATE),
    ("metadata without TLS", "http://169.254.169.254/SECRET", PLAIN),
    ("metadata", "https://169.254.169.254/SECRET", PRIVATE),
    ("a private name", "https://localhost:{port}/SECRET", PRIVATE),
    ("one number", "https://2130706433:{port}/SECRET", BAD),
    ("one hex number", "https://0x7f000001:{port}/SECRET", PRIVATE),
    ("no scheme", "//127.0.0.1:{port}/SECRET", PLAIN),
    ("a user name", "https://user:SECRET@127.0.0.1:{port}/", BAD),
    ("file", "file:///etc/SECRET", BAD),
    ("gopher", "gopher://127.0.0.1:{port}/_SECRET", BAD),
    ("data", "data:text/plain,SECRET", BAD),
    ("another redirect to loopback", "/307/0", PRIVATE),
    ("two more redirects to loopback", "/308/14", PRIVATE),
    ("itself", "/302/16", "redirects"),
    ("a broken URL", "https://[::1", BAD),
    ("the ssh port of a public host", "https://1.1.1.1:22/SECRET", BAD),
)
"""What ``Location`` says, and how that ends; those with a path lead back to this table."""

NAMED: Final = (
    Url("a name with a dot behind", "https://localhost.:{port}/SECRET", PRIVATE, (("127.0.0.1",),)),
    Url("a name for loopback", "https://inside.example:{port}/SECRET", PRIVATE, (("127.0.0.1",),)),
    Url("a name for IPv6 loopback", "https://inside.example:{port}/SECRET", PRIVATE, (("::1",),)),
    Url("a name for metadata", "https://metadata.google.internal/SECRET", PRIVATE, (("169.254.169.254",),)),
    Url("a name for the private network", "https://db.corp.example:5432/SECRET", PRIVATE, (("10.1.2.3", "10.1.2.4"),)),
    Url("public first, private second", "https://two.example:{port}/SECRET", PRIVATE, (("1.1.1.1", "127.0.0.1"),)),
    Url("private first, public second", "https://two.example:{port}/SECRET", PRIVATE, (("127.0.0.1", "1.1.1.1"),)),
    Url("IPv4 public, IPv6 mapped", "https://two.example/SECRET", PRIVATE, (("1.1.1.1", "::ffff:127.0.0.1"),)),
    Url(
        "public when checked, private when asked again",
        "https://rebind.example:{port}/SECRET",
        "",
        (("1.1.1.1",), ("127.0.0.1",)),
    ),
    Url(
        "private when a second try asks",
        "https://rebind.example:{port}/SECRET",
        PRIVATE,
        (("127.0.0.1",), ("1.1.1.1",)),
    ),
)
"""``reason`` empty: the check passes, and the connection must go to the address that was checked, nowhere else."""

REDIRECTS: Final = (301, 302, 303, 307, 308)


def corpus() -> list[Url]:
    """Every URL."""
    found = [Url(f"address: {what}", f"https://{host}:{{port}}/SECRET", PRIVATE) for what, host in _ADDRESSES.items()]
    found += [
        Url(f"spelling: {what}", f"https://{host}:{{port}}/SECRET", why) for what, (host, why) in _SPELLINGS.items()
    ]
    found += [Url(f"URL: {what}", url, why) for what, (url, why) in _WHOLE.items()]
    for number, (what, _, why) in enumerate(LOCATIONS):
        statuses = REDIRECTS if number == 0 else (302,)
        found += [
            Url(f"redirect {status}: {what}", f"http://{{redirect}}/{status}/{number}", why) for status in statuses
        ]
    return found + [Url(f"name: {one.what}", one.url, one.reason, one.names) for one in NAMED]
