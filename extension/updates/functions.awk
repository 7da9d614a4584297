# Print the functions that the first file names (one a line), as the topics define them, to replace the older ones.
FNR == NR { if ($0 !~ /^#/ && NF) wanted[$1] = 1; next }
/^CREATE FUNCTION / {
    name = $0
    sub(/^CREATE FUNCTION @extschema@\./, "", name)
    sub(/\(.*/, "", name)
    if (name in wanted) {
        printing = 1
        found[name] = 1
        sub(/^CREATE FUNCTION/, "CREATE OR REPLACE FUNCTION")
    }
}
printing { print }
printing && /^(\$[a-z]*\$|END);$/ { printing = 0; print "" }
END {
    for (name in wanted)
        if (!(name in found)) {
            print "functions.awk: no topic defines " name > "/dev/stderr"
            exit 1
        }
}
