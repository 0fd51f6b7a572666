/// Of the program: what `atoll --version`, metrics and packages say.
public let atollVersion = "0.1.0"
