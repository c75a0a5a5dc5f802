"""What a Python program calls: sources and settings in, values out; nothing is printed. Its names are those of `import beepgpt`."""
