#!/usr/bin/env bash
# Sizes at which newcomers stop reading: no file over 500 lines, no function over 60, no value with more than 20 stored properties.
# What was larger when this check came is listed in Tools/shape-known.txt, and may only shrink. It reads formatted sources (`make format`), so indentation says where a declaration ends. Generated files are left out.
set -euo pipefail
cd "$(dirname "$0")/.."

Tools/sources.sh | grep -v '^Package.swift$' | xargs awk -v fileMost=500 -v functionMost=60 -v propertyMost=20 '
    BEGIN {
        while ((getline row < "Tools/shape-known.txt") > 0) {
            split(row, part, " ")
            if (row !~ /^#/) known[part[1] " " part[2]] = part[3]
        }
    }
    function check(line, name, size, most, what,   key) {
        key = name
        gsub(/ /, "_", key)
        key = FILENAME " " key
        if (key in known) { seen[key] = 1; if (known[key] > most) most = known[key] }
        if (size > most) { print FILENAME ":" line ": " name " has " size " " what ", at most " most; bad = 1 }
        else if (key in known && size < known[key]) {
            print FILENAME ":" line ": " name " has " size " " what " now: say so in Tools/shape-known.txt"; bad = 1
        }
    }
    function nameIn(text, keyword,   rest) {
        rest = text
        sub("^.*(^|[ (])" keyword " +", "", rest)
        sub(/[ (<:{].*/, "", rest)
        return rest
    }
    # How many stored properties a declaration has: none where braces follow without a value, unless they only observe.
    function stored(text,   head, observes) {
        observes = text ~ /\{ *(didSet|willSet)/
        sub(/ = .*/, " =", text)
        if (text ~ /\{/ && text !~ / =$/ && !observes) return 0
        head = text
        while (gsub(/\([^()]*\)|\[[^][]*\]|<[^<>]*>/, "", head)) { }
        return gsub(/,/, "", head) + 1
    }
    function endOfFile(   i) {
        if (lines > fileMost) { print file ": " lines " lines, at most " fileMost; bad = 1 }
    }
    FNR == 1 { endOfFile(); file = FILENAME; values = 0; functions = 0; inText = 0 }
    { lines = FNR }
    # Text over several lines is no code.
    inText { if (/"""/) inText = 0; next }
    /"""[^"]*$/ && !/""".*"""/ { inText = 1 }
    /^ *\/\// || /^ *$/ { next }
    {
        indent = match($0, /[^ ]/) - 1
        code = $0
        sub(/ *\/\/ .*$/, "", code)
    }
    # What ended at this line.
    functions && indent <= functionIndent[functions] {
        if (code ~ /^ *}/ && indent == functionIndent[functions] && hasBody[functions]) {
            size = FNR - functionLine[functions] + 1
            check(functionLine[functions], functionName[functions], size, functionMost, "lines")
            functions--
        } else if (code !~ /^ *[)>{]/ && code !~ /^ *(where|->|async|throws)/) functions--
    }
    functions && !hasBody[functions] && code ~ /\{$/ { hasBody[functions] = 1 }
    values && indent <= valueIndent[values] && code ~ /^ *}/ {
        check(valueLine[values], valueName[values], properties[values], propertyMost, "stored properties")
        values--
    }
    code ~ /^ *(@[A-Za-z]+(\([^)]*\))? +)*((public|package|internal|private|fileprivate|final|indirect|open) +)*(struct|class|actor|enum|extension|protocol) +[A-Za-z`]/ &&
        code ~ /\{$/ {
        values++
        match(code, /(struct|class|actor|enum|extension|protocol) /)
        keyword = substr(code, RSTART, RLENGTH - 1)
        valueIndent[values] = indent; valueLine[values] = FNR; properties[values] = 0
        valueName[values] = nameIn(code, keyword)
        isProtocol[values] = keyword == "protocol"
    }
    values && indent == valueIndent[values] + 4 && !isProtocol[values] && code !~ /(^|[ )])(static|class|func|case|init) ?/ &&
        code ~ /^ *(@[A-Za-z]+(\(.*\))? +)*((public|package|internal|private|fileprivate|final|lazy|weak|unowned|nonisolated|public\(set\)|package\(set\)|internal\(set\)|private\(set\)|fileprivate\(set\)|nonisolated\(unsafe\)) +)*(let|var) / {
        properties[values] += stored(code)
    }
    code ~ /^ *([a-z@][A-Za-z()@]* +)*(func +[^ ]|init[?(<]|subscript[(<]|deinit)/ && code !~ /^ *(return|let|var|self|super|try|case|guard|if|for|while|switch|precondition|else|defer|await)([ .(]|$)/ {
        if (code ~ /}$/) next
        functions++
        functionIndent[functions] = indent; functionLine[functions] = FNR
        functionName[functions] = code
        sub(/^ */, "", functionName[functions]); sub(/\(.*/, "", functionName[functions])
        hasBody[functions] = code ~ /\{$/
    }
    END {
        endOfFile()
        for (key in known) if (!(key in seen)) { print "Tools/shape-known.txt: " key " is no more"; bad = 1 }
        exit bad
    }'
echo "shape: no file over 500 lines, no function over 60, no value over 20 stored properties"
