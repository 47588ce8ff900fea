"""Personal data: precision and recall on a sample written by hand, from the kinds of text that
manuals, mails, logs, code and web pages hold. No number belongs to anybody: they are reserved for
fiction, published as test numbers, or made for this file with right check digits."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.data.personal import KINDS, find, iban_holds, luhn, redact

# what is marked «kind:...» is to be found, nothing else
POSITIVES = """\
Write to «email:maria.gonzalez@example.org» before Friday.
Contact: <«email:j.o'neil+work@mail.example.co.uk»>
mailto:«email:support_team@firma-mueller.de»?subject=Pump
From: Anna Berg <«email:anna@xn--bcher-kva.example»>, To: «email:Lee.P@EXAMPLE.COM»
You reach her at «email:k.tanaka [at] example [dot] jp» most days.
Obfuscated: «email:first.last(at)uni-example.edu» works too.
Antworten Sie bitte an «email:jürgen.groß@example.de».
«email:4711@orders.example.net» is the address for returns;«email:b@example.io».
Call +«phone:» never mind, the office moved.
Our London office: «phone:+44 20 7946 0958» (9 to 5).
Tel. «phone:030 90182-0» or mobile «phone:0171 2345678»
Téléphone : «phone:01 99 00 12 34»
Call «phone:(415) 555-0132» and ask for Sam.
Dial «phone:1-800-555-0199» toll free, or text «phone:212-555-0147».
Phone: «phone:202.555.0173»
WhatsApp «phone:+91-98765-43210», available after six.
Fax «phone:+49 (0)30 1234567», Telefon «phone:+49 30 1234566».
Emergency contact «phone:+1 (646) 555-0188» (mother)
ring me on «phone:07700 900123» tonight
Rufen Sie unter «phone:+4915112345678» an.
from abroad «phone:0033 1 99 00 56 78»
Card number «card:4111 1111 1111 1111», expires 04/29
paid with «card:5555-5555-5555-4444» on arrival
Amex «card:378282246310005» was declined.
card=«card:6011111111111117»;cvv=***
Please charge «card:3530 1113 3330 0000» instead.
Diners: «card:3056 930902 5904»
UnionPay «card:6240008631401148» refused
IBAN «iban:DE89 3704 0044 0532 0130 00» WITH BIC COBADEFFXXX
Send it to «iban:GB29NWBK60161331926819».
compte «iban:FR14 2004 1010 0505 0001 3M02 606», merci
Konto: «iban:AT61 1904 3002 3457 3201», Empfänger Huber
«iban:NL91ABNA0417164300» is the account of the club
refused from «ip:203.0.113.77» port 22
GET / from [«ip:2001:db8:85a3::8a2e:370:7334»]:443
client «ip:198.51.100.23», server: example.org
Nameserver is «ip:192.168.178.1»; gateway «ip:10.12.0.254».
link-local «ip:fe80::1ff:fe23:4567:890a» on eth0
http://«ip:192.0.2.10»/admin is open to all
aws_access_key_id = «key:AKIAIOSFODNN7ABCDEFG»
export OPENAI_API_KEY=«key:sk-proj-4fJ2kd93Jfkd02lPq8sWmZx7»
token: «key:ghp_16C7e42F292c6912E7710c838347Ae178B4a»
"password": "«key:Tr0ub4dor&3-horse»",
curl -H "Authorization: Bearer «key:eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNry»"
slack «key:xoxb-2314567890-abcdefABCDEF0123» in the log
stripe.api_key = "«key:sk_live_4eC39HqLyjWDarjtT1zdp7dc»"
maps key «key:AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY» leaked
db_pwd=«key:q8Zr!2vLmT0p»
HF_TOKEN=«key:hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345»
"""
NEGATIVES = """\
The valve opens at 3.5 bar and closes at 12.25 bar.
Order 2024-01-31-0042 was shipped on 2024-02-01.
ISBN 978-3-16-148410-0 and ISSN 2049-3630
Version 4.18.0.305 fixed it; v10.2.3.4 did not.
Use release 1.2.3.4 of the driver.
See section 10.4.2.1 of the standard.
Mozilla/5.0 (X11; Linux x86_64) Chrome/120.0.0.0 Safari/537.36
requires numpy==1.26.4.0 and pandas>=2.1
The mask is 255.255.255.0 and the loopback 127.0.0.1.
listen on 0.0.0.0:8080 or on ::1
std::vector<int> a; Foo::bar(); ::begin(x); abc::def
The call at 12:30:45 lasted 00:04:12.
MAC 00:1B:44:11:3A:B7 belongs to the printer.
git clone git@github.com:example/project.git
logo: images/icon@2x.png, images/hero@3x.jpg
import x from '@scope/package' at npm install left-pad@1.3.0
@app.route("/users") def users(): ...
Follow @llmctl on the network, or not.
The price rose from 1 200 000 to 1 450 000 euros.
Population: 83 149 300 (2019), 82 792 351 (2017)
Serial 1234-5678-9012-3456 is printed on the back.
Tracking number 4111111111111112 (wrong check digit)
pi is 3.14159265358979323846
0.4111111111111111 is the mean of the series
0000 0000 0000 0000 is what an empty field shows
UUID 550e8400-e29b-41d4-a716-446655440000
sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
commit 866cf15a0de3c1be2f0a6c8d7b9e4f5a6b7c8d9e
DE89 3704 0044 0532 0130 01 has a wrong check digit
GB29 is the old name of road B29 in town
AB12 CDEF 3456 7890 1234 is a licence key format
Part 020-7946-0958-A replaces part 123-456-7890.
Coordinates 52.5200 13.4050, altitude 34.0
1-2-3-4-5-6-7-8-9-10 steps to go
From 1914-1918 and 1939-1945, see pages 212-555.
Room 415, extension 0132, building 7
Dial the number on the plate of the motor.
password = os.environ["DB_PASSWORD"]
api_key: ${API_KEY}
token = "your-token-here-0000000"
The secret: patience, and a good pump.
password: changeme1234
sk-learn and sk-image are Python packages
The token count is 4096, the key is "model".
Tokens: 12,500,000; batch 1,024; rate 3e-4
Call 911 in an emergency; dial 112 in Europe.
matrix[1][2] = 4111; rows 4242-4244
Phase 1.1.1.2023: see chapter 4.3.2.1
Temperatures: -20 +35 +40 +45 degrees
Timestamp 1700000000 and 1700000000123
x = 5555555555554444 * 2  # not 5555555555554445
"""
MARK = re.compile(r"«(\w+):([^»]*)»")


def expected(line: str) -> tuple[str, list[tuple[str, str]]]:
    return MARK.sub(r"\2", line), [(m[1], m[2]) for m in MARK.finditer(line) if m[2]]


def measured() -> tuple[int, int, int, list[str]]:
    """(right, wrong, missed, what went wrong): a span counts when kind and both ends are right."""
    right = wrong = missed = 0
    told = []
    for line in (POSITIVES + NEGATIVES).splitlines():
        text, wanted = expected(line)
        found = [(each.kind, text[each.start : each.end]) for each in find(text)]
        right += len(set(found) & set(wanted))
        wrong += len(set(found) - set(wanted))
        missed += len(set(wanted) - set(found))
        if set(found) != set(wanted):
            told.append(f"{text!r}: wanted {wanted}, found {found}")
    return right, wrong, missed, told


def test_the_sample_is_large_enough() -> None:
    wanted = [each for line in POSITIVES.splitlines() for each in expected(line)[1]]
    assert len(wanted) >= 50 and {kind for kind, _ in wanted} == set(KINDS)
    assert len(NEGATIVES.splitlines()) >= 50 and "«" not in NEGATIVES


def test_precision_and_recall() -> None:
    right, wrong, missed, told = measured()
    assert right / (right + wrong) >= 0.95, told
    assert right / (right + missed) >= 0.95, told


def test_check_digits() -> None:
    assert luhn("4111111111111111") and not luhn("4111111111111112")
    assert iban_holds("DE89370400440532013000") and not iban_holds("DE89370400440532013001")


def test_what_is_found_is_replaced_and_counted() -> None:
    text = "Mail a@example.org or b@example.org, tel. 030 1234567."
    assert redact(text) == (
        "Mail [EMAIL] or [EMAIL], tel. [PHONE].", {"email": 2, "phone": 1},
    )  # fmt: skip
    assert redact(text, ["phone"])[0] == "Mail a@example.org or b@example.org, tel. [PHONE]."


def test_a_private_key_goes_whole() -> None:
    lines = "\n".join(["MIIEpAIBAAKCAQEA7bq1x9Zk"] * 12)
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{lines}\n-----END RSA PRIVATE KEY-----"
    assert redact(f"before\n{key}\nafter") == ("before\n[KEY]\nafter", {"key": 1})


PIECES = st.sampled_from(
    ["a@b.de", "+49 30 1234567", "4111 1111 1111 1111", "DE89370400440532013000", "1.2.3.4", "::1",
     "tel ", "token=", "-", " ", ".", "@", "0", "77", "\f", "\n", "sk-", "[EMAIL]", "(at)", "x"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join)))
@settings(max_examples=300)
def test_spans_are_apart_and_redacting_twice_is_redacting_once(text: str) -> None:
    found = find(text)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert all(0 <= each.start < each.end <= len(text) for each in found)
    once = redact(text)[0]
    assert once.count("\f") == text.count("\f")
    assert redact(once)[0] == once


@pytest.mark.parametrize(
    "piece", ["1", "a", "a@", "a.", "1 ", "+1", "a:", ":", "1.", "token=", "A1", "-", "(at)", "eyJ"]
)
def test_no_text_makes_it_slow(piece: str) -> None:
    taken = []
    for size in (5_000, 80_000):
        began = time.process_time()
        find(piece * (size // len(piece)))
        taken.append(time.process_time() - began)
    assert taken[1] < 100 * taken[0] + 0.2
