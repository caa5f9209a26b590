from sweep.tracking.follow import main

if __name__ == "__main__":
    main()
