public import Wire

extension StoredBytes {
    /// All of them, to be looked at and changed.
    public var array: [UInt8] {
        get { all! }
        set { self = StoredBytes(newValue) }
    }
}
extension StoredBytes: ExpressibleByArrayLiteral {
    public init(arrayLiteral elements: UInt8...) { self.init(elements) }
}
