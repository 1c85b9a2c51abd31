"""The template language: what is documented of it, its modifiers, and what hostile templates cannot do."""

from __future__ import annotations

from typing import Any

import pytest

from operators.template.language import render
from operators.template.values import Budget, TemplateError

DATA: dict[str, Any] = {
    "name": "John <Doe>",
    "age": 33,
    "empty": "",
    "zero": 0,
    "total-price": 10,
    "children": ["Peter", "Angela"],
    "foo": {"bar": {"baz": [1, 2, {"deep": "yes"}]}},
    "list": {"a": 1, "b": 2},
    "team": [{"name": "R", "price": 3}, {"name": "M", "price": 12.5}],
    "text": "one two\nthree",
    "digits": "0123456789",
}


def text(template: str, *, html: bool = False, **more: Any) -> str:
    return render(template, {**DATA, **more}, Budget(), html=html)


SHOWN = {
    "a variable": ("Hi {$name}", "Hi John <Doe>"),
    "of an array": ("{$children[1]}", "Angela"),
    "of an object": ("{$foo.bar.baz[2].deep}", "yes"),
    "of an object by place": ("{$list[1]}", "2"),
    "that is not there": ("[{$nobody}{$foo.nothing[3].x}{$children[9]}]", "[]"),
    "dashes in the data": ("{$total_price}", "10"),
    "calculated": (
        "{$age + 2 * 3} {($age + 2) * 3} {$age % 2} {$total_price / 4}",
        "39 105 1 2.5",
    ),
    "calculated with what is no number": ("{$name + 1} {$nobody * 2} {$age / 0}", "1 0 0"),
    "if": ("{if $age > 18}old{else}young{/if}", "old"),
    "elseif": ("{if $age == 1}a{elseif $age == 33}b{else}c{/if}", "b"),
    "compared with nothing": ("{if $empty == ''}sub{/if}{if $zero}x{/if}{if $nobody}y{/if}", "sub"),
    "and, or, not": ("{if $age >= 33 AND not $empty}y{/if}{if $zero OR $age != 33}n{/if}", "y"),
    "a regular expression": ('{if $name =~ "^J.*>$"}y{/if}{if $name =~ "x"}n{/if}', "y"),
    "foreach in": ("{foreach $p in $team}{$p.name}={$p.price};{/foreach}", "R=3;M=12.5;"),
    "foreach as": ("{foreach $list as $key => $value}{$key}{$value} {/foreach}", "a1 b2 "),
    "foreachelse": ("{foreach $x in $nobody}a{foreachelse}none{/foreach}", "none"),
    "assign": (
        "{foreach $i in $team}{assign $total + $i.price to $total}"
        "{if $i.price > $top.price}{assign $i to $top}{/if}{/foreach}{$total} {$top.name}",
        "15.5 M",
    ),
    "assign as in Smarty": ("{assign var=x value=$age+1}{$x}", "34"),
    "assign with a sign": ("{$x = 'Lorem'}{$x}", "Lorem"),
    "capture": ("{capture $c}<b>{$age}</b>{/capture}{$c}{$c}", "<b>33</b><b>33</b>"),
    "capture as in Smarty": ('{capture assign="c"}x{/capture}{capture name=d}y{/capture}{$c}{$d}', "xy"),
    "foreach as in Smarty": ("{foreach from=$children item=c key=k}{$k}{$c}{/foreach}", "0Peter1Angela"),
    "braces": ("{ldelim}$x{rdelim}{literal}{$name}{if}{/literal}", "{$x}{$name}{if}"),
    "a comment": ("a{* {$name} \n *}b", "ab"),
    "a text": ("{\"it's\"|toupper} {'a \\' b'}", "IT'S a ' b"),
    "style sheets and JSON": ('p {color:red} a{b:c} {"@context": 1} {}', 'p {color:red} a{b:c} {"@context": 1} {}'),
    "signs that an editor has escaped": ("{if $age &gt;= 33 &amp;&amp; $age &lt; 99}y{/if}", "y"),
}


@pytest.mark.parametrize(("template", "shown"), SHOWN.values(), ids=SHOWN.keys())
def test_what_is_documented_is_shown(template: str, shown: str) -> None:
    """As the pages say."""
    assert text(template) == shown


MODIFIED = {
    "base64_encode": ("{$name|base64_encode}", "Sm9obiA8RG9lPg=="),
    "base64_decode": ("{'aGk='|base64_decode}", "hi"),
    "cat": ('{$age|cat:" years":"!"}', "33 years!"),
    "count": ("{$children|count}{$name|count}", "20"),
    "count_characters": ("{$digits|count_characters}{$children|count_characters}", "100"),
    "count_paragraphs": ("{$text|count_paragraphs}", "2"),
    "count_words": ("{$text|count_words}", "3"),
    "default": ('{$nobody|default:"friend"}{$empty|default:"x"}{$zero|default:"y"}', "friendx0"),
    "empty": ("{if $empty|empty}y{/if}{if $name|empty}n{/if}", "y"),
    "escape": ('{$name|escape} {"a b&c"|escape:"url"} {"hi"|escape:"base64"}', "John &lt;Doe&gt; a%20b%26c aGk="),
    "indent": ('{$text|indent:2:"-"}', "--one two\n--three"),
    "md5": ("{'a'|md5}", "0cc175b9c0f1b6a831c399e269772661"),
    "md5 of an array": ("{if $children|md5 == 'PeterAngela'|md5}y{/if}", "y"),
    "nl2br": ("{$text|nl2br}", "one two<br>\nthree"),
    "range": ("{foreach $d in $children|range:1:2}{$d}{/foreach}", "Angela"),
    "regex_replace": ('{$digits|regex_replace:"[0-4]":"x"}', "xxxxx56789"),
    "replace": ('{$digits|replace:"012":"a"}', "a3456789"),
    "sha1": ("{'a'|sha1}", "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"),
    "sha256": ("{'a'|sha256|truncate:8:'':true}", "ca978112"),
    "sha512": ("{'a'|sha512|substr:0:8}", "1f40fc92"),
    "spacify": ('{"abc"|spacify:"."}', "a.b.c"),
    "strlen": ("{$digits|strlen}{$children|strlen}", "100"),
    "strstr": ('{"Hello world!"|strstr:" ":true}{"Hello world!"|strstr:"w"}', "Helloworld!"),
    "substr": ("{$digits|substr:2} {$digits|substr:4:3}", "23456789 456"),
    "tolower": ("{'ABC'|tolower}", "abc"),
    "toupper": ("{'straße'|toupper}", "STRASSE"),
    "trim": ("[{' \ta\n '|trim}]", "[a]"),
    "truncate": ('{"I love to write"|truncate:12} {"I love"|truncate:5:"..":true}', "I love to... I l.."),
    "ucfirst": ("{'jOHN'|tolower|ucfirst}", "John"),
    "urlencode": ("{'a b/c'|urlencode}{'a%20b'|urldecode}", "a%20b%2Fca b"),
    "number_format": ("{'1234.5'|number_format:2:',':'.'}", "1.234,50"),
    "date_format": ("{'2026-11-26'|date_format:'%d.%m.%Y'}", "26.11.2026"),
    "one that is not known": ("{$age|nosuch:1}", "33"),
    "join": ('{$children|join:" and "}', "Peter and Angela"),
}


@pytest.mark.parametrize(("template", "shown"), MODIFIED.values(), ids=MODIFIED.keys())
def test_the_modifiers(template: str, shown: str) -> None:
    """Each as its page says; one that is not known has no effect."""
    assert text(template) == shown


def test_html_is_escaped_by_default() -> None:
    """Values are; the template's own texts, and what is escaped already, are not."""
    assert text("<a title='{$name}'>{$name}</a>", html=True) == "<a title='John &lt;Doe&gt;'>John &lt;Doe&gt;</a>"
    assert text("{$name|escape} {$name|toupper}", html=True) == "John &lt;Doe&gt; JOHN &lt;DOE&gt;"
    assert text("{capture $c}<b>{$name}</b>{/capture}{$c}", html=True) == "<b>John &lt;Doe&gt;</b>"
    assert text("{$nobody|default:'<i>you</i>'}{$name|raw}", html=True) == "<i>you</i>John <Doe>"
    assert text("{$text|nl2br}", html=True, text="<\n") == "&lt;<br>\n"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{if $x}a", "is missing"),
        ("{/if}", "is not expected here"),
        ("a\n{else}", "line 2"),
        ("{foreach $x}{/foreach}", "as is expected"),
        ("{foreach $x in $y}", "is missing"),
        ("{$name", "is not expected in a tag"),
        ("{$name|}", "the name of a modifier is expected"),
        ("{$a b}", "} is expected"),
        ("{literal}x", "is missing"),
        ("{* x", "is missing"),
        ("{$}", "is not expected in a tag"),
    ],
)
def test_what_is_no_template_is_an_error_that_says_where(template: str, why: str) -> None:
    """It is never shown raw."""
    with pytest.raises(TemplateError, match=why):
        text(template)


HOSTILE = {
    "loops in loops": "{foreach $a in $l}{foreach $b in $l}{foreach $c in $l}x{/foreach}{/foreach}{/foreach}",
    "text that doubles": "{assign 'aaaaaaaa' to $x}" + "{assign $x|cat:$x to $x}" * 40 + "{$x}",
    "text in a loop": "{foreach $a in $l}" + "y" * 40_000 + "{/foreach}",
    "blocks in blocks": "{if 1}" * 100 + "{/if}" * 100,
    "parentheses": "{$x + " + "(" * 5000 + "1" + ")" * 5000 + "}",
    "replacing by itself": "{$big|replace:'a':$big}",
    "a wide indent": "{$big|indent:1000000000}",
    "many tags": "{$a}" * 3000,
    "a long expression": "{$a" + "+1" * 100_000 + "}",
    "many values": "{foreach $a in $l}{foreach $b in $l}{$big|md5}{/foreach}{/foreach}",
    "expressions on long texts": "{foreach $a in $l}{if $big =~ '(a|aa)+$'}{/if}{/foreach}",
    "JSON in loops": "{foreach $a in $l}{foreach $b in $l}{$l|json_encode}{/foreach}{/foreach}",
}


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_template_is_stopped(template: str) -> None:
    """Depth, loops, size: each is bounded, whatever the template asks for."""
    with pytest.raises(TemplateError):
        text(template, l=list(range(1000)), big="a" * 200_000)


@pytest.mark.parametrize(
    "template",
    ["{$name.__class__}", "{$__import__}", "{$name.upper}", "{$children.append}", "{$list.keys}", "{$children.sort.x}"],
)
def test_no_attribute_can_be_reached(template: str) -> None:
    """A template sees JSON values alone."""
    assert text(template) == ""


def test_numbers_stay_small() -> None:
    """What grows without end becomes approximate, and then nothing."""
    assert len(text("{assign 9 to $x}" + "{assign $x * $x to $x}" * 60 + "{$x}")) < 400
    assert text("{$x * 2}", x=10**5000) != ""


def test_braces_that_are_no_tags_cost_little() -> None:
    """They are text, however many there are."""
    source = "{(" * 100_000
    assert text(source) == source
