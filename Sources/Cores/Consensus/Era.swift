/// How often a job was founded anew after a majority of its electors was lost.
///
/// Each era has terms of its own, above all those of the eras before: whoever still speaks for an older era has an older term, and no count of
/// elections there makes it newer. 65 536 elections are one each minute for six weeks; then the job is founded anew.
public enum Era {
    public static let terms = 1 << 16
    /// The one that a term is of.
    public static func of(term: Int) -> Int { term / terms }
    /// The term of the entry that an era begins with.
    public static func firstTerm(of era: Int) -> Int { era * terms }
    /// More than these are not counted: a term has 31 bits, and numbers of groups rest on it.
    public static let most = 127
}
